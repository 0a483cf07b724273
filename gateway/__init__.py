"""The service: from a datagram to a sealed record that has been delivered."""
