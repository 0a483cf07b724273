"""The node's side: a CoAP client over DTLS, and bracelets that replay recorded heartbeats."""
