"""CoAP (RFC 7252 and its extensions) without input and output: bytes and ``now`` in, bytes out."""
