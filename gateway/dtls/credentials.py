"""Who may shake hands: what the DTLS room asks of whoever keeps the devices."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class PreSharedKey(NamedTuple):
    """The key of one identity."""

    device: str
    """The device's id: what the association stands for."""
    key: bytes


class Credentials(Protocol):
    """Looked up during handshakes, from the event loop: answers at once, from memory."""

    def psk(self, identity: bytes) -> PreSharedKey | None:
        """The key for an identity as it came over the wire; None if unknown or revoked."""
        ...
