"""Translation between CoAP and HTTP, both ways (RFC 7252 section 10, RFC 8075)."""
