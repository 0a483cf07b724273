"""The node's side of one association: what a bracelet has instead of :mod:`gateway.dtls.server`.

Used by the simulator, ``send``, the self-test and the tests. Sans-IO like the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.dtls.association import Path
from gateway.dtls.handshake import DEADLINE_S, Handshake, HandshakeOver
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from gateway.dtls.association import Association
    from gateway.dtls.engines import Engine

_ONLY_PATH = Path(0, ("", 0))


class ClientFactory(Protocol):
    """Makes the client side of one handshake (engines/)."""

    def engine(self, mtu: int) -> Engine: ...


class Client:
    """One association with a gateway. Send ``outgoing`` after each call, and clear it."""

    def __init__(self, engines: ClientFactory, *, mtu: int, now: float) -> None:
        self.association: Association | None = None
        self.outgoing: list[bytes] = []
        self._handshake: Handshake | None = Handshake(
            engines.engine(mtu), server=False, number=0, mtu=mtu, now=now
        )
        self.outgoing += self._handshake.start(now)

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        """The plaintexts of one datagram.

        Raises DtlsError when the handshake has failed or the gateway has closed the association.
        """
        if self._handshake is not None:
            try:
                self.outgoing += self._handshake.receive_untrusted(datagram, now)
            except HandshakeOver as over:
                self.outgoing += over.datagrams
                raise
            if not self._handshake.done():
                return []
            handshake, self._handshake = self._handshake, None
            self.association = handshake.associate(0, _ONLY_PATH, now)
            early = b"".join(handshake.early)
            return self.association.receive_untrusted(early, now) if early else []
        assert self.association is not None
        plaintexts = self.association.receive_untrusted(datagram, now)
        if self.association.closed:
            raise DtlsError("the gateway has closed the association")
        return plaintexts

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called; None once the handshake is done."""
        return None if self._handshake is None else self._handshake.get_timer()

    def handle_timer(self, now: float) -> None:
        """Repeat the last flight if it is time. Raises DtlsError at the handshake's deadline."""
        if self._handshake is None:
            return
        if now - self._handshake.started > DEADLINE_S:
            raise DtlsError(f"no answer to the handshake within {DEADLINE_S:.0f} s")
        self.outgoing += self._handshake.handle_timer(now)

    def send(self, plaintext: bytes) -> None:
        """Queue application data. Raises DtlsError before the handshake is done."""
        if self.association is None:
            raise DtlsError("no association yet")
        self.outgoing.append(self.association.protect(plaintext))
