"""From the outbox to the sink: one pump a lane, retries that back off, breakers."""
