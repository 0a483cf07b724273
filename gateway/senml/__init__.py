"""Sensor Measurement Lists (RFC 8428), JSON and CBOR: bytes to resolved records and back."""
