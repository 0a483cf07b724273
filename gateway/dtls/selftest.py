"""A real handshake of every suite, in memory: the only proof that OpenSSL still does what it says.

Security levels, builds and releases can take a suite away while it is still listed. Run at start
and by ``check``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import PreSharedKey
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config, Server
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Callable

_IDENTITY: Final = "self-test"
_PATH: Final = Path(0, ("192.0.2.1", 5684))
_ROUND_TRIPS: Final = 6


class _OneDevice:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def psk(self, identity: bytes) -> PreSharedKey | None:
        return PreSharedKey(_IDENTITY, self._key) if identity == _IDENTITY.encode() else None


def handshake(suite: str, random: Callable[[int], bytes]) -> None:
    """Shake hands with ``suite`` alone and pass one record each way.

    Raises DtlsError that names the suite.
    """
    key = random(16)
    engines = OpensslServer(_OneDevice(key), random(32), psk_suites())
    server = Server(Config(), engines, Cookies(random(32), random), first_number=1)
    try:
        client = Client(OpensslClient(_IDENTITY.encode(), key, [suite]), mtu=1232, now=0.0)
        for _ in range(_ROUND_TRIPS):
            out, client.outgoing = client.outgoing, []
            for datagram in out:
                server.receive(datagram, _PATH, 0.0)
            back, server.outgoing = server.outgoing, []
            for datagram, _ in back:
                client.receive(datagram, 0.0)
        client.send(b"up")
        received = server.receive(client.outgoing.pop(), _PATH, 0.0)
        if received is None or list(received[1]) != [b"up"] or received[0].suite != suite:
            raise DtlsError("a record was not understood")
        if client.receive(received[0].protect(b"down"), 0.0) != [b"down"]:
            raise DtlsError("an answer was not understood")
    except DtlsError as error:
        raise DtlsError(f"DTLS suite {suite} does not work with this OpenSSL: {error}") from None


def all_suites(random: Callable[[int], bytes]) -> list[str]:
    """Handshake with each suite; their names. Raises DtlsError for the first that fails."""
    suites = psk_suites()
    for suite in suites:
        handshake(suite, random)
    return suites
