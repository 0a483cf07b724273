"""Handshake engines: one file each, all with the same face.

An engine shakes hands and hands over the keys; then it is dropped. Retransmission, expiry, numbers
and records belong to the association, which passes ``now``: an engine has no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.dtls.records import RecordKeys


class Engine(Protocol):
    """One handshake, seen from one side."""

    def feed(self, datagram: bytes) -> None:
        """Take in handshake records, one datagram at a time.

        A server's first datagram is a ClientHello whose cookie has been checked already.
        Raises HandshakeError when the handshake is over for good.
        """
        ...

    def flight(self) -> bytes:
        """The records to send, in one piece; empty when there is nothing to say."""
        ...

    def done(self) -> bool:
        """True once both Finished messages have been seen."""
        ...

    def device(self) -> str | None:
        """The authenticated peer's device id, once known."""
        ...

    def keys(self) -> RecordKeys | None:
        """Record keys, from the moment that the master secret is there, before Finished."""
        ...
