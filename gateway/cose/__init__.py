"""COSE (RFC 9052, RFC 9053): sealing records, wrapping content keys, signing batches.

Pure: bytes in, bytes out; time and randomness are arguments. Only what the product needs, and
exactly that: AES-256-GCM for content, ECDH-ES + A256KW over P-256 or X25519 for content keys,
ES256 for signatures. A message that names another algorithm, or names its algorithm where an
attacker can change it, is refused, never negotiated.
"""
