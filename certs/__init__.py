"""The ward's certificate authority: who is who, by X.509 (RFC 5280)."""
