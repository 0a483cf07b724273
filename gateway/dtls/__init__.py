"""DTLS 1.2 (RFC 6347): OpenSSL shakes hands, the records after it are ours."""
