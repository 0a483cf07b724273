"""Vital signs: from resolved SenML records to observations, findings, priorities and alarms."""
