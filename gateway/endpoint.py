"""Who is at the other end: an association, not an address (RFC 7252 section 9.1.1)."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """One authenticated peer for the life of one DTLS association."""

    association: int
    """Never used twice, also not after a restart: a new handshake is a new endpoint."""

    device: str
    """The device's id, from the handshake, never from a payload."""
