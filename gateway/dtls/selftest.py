"""A real handshake of every suite, in memory: the only proof that OpenSSL still does what it says.

Security levels, builds and releases can take a suite away while it is still listed. Run at start
and by ``check``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE, GATEWAY
from gateway.clock import SystemClock
from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import Identity, PreSharedKey, Refusal
from gateway.dtls.engines.openssl import (
    OpensslCertifiedClient,
    OpensslClient,
    OpensslServer,
    certificate_suites,
    psk_suites,
)
from gateway.dtls.server import Config, Server
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from certs.profiles import Profile
    from gateway.dtls.client import ClientFactory

_IDENTITY: Final = "self-test"
_PATH: Final = Path(0, ("192.0.2.1", 5684))
_ROUND_TRIPS: Final = 6


class _OneDevice:
    """Has a key and a certificate, both made for this."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        # OpenSSL compares the dates with the system's clock, so that is the one to issue by.
        wall = SystemClock().wall()
        authority = Authority.passing(_IDENTITY, wall=wall)

        def identity(profile: Profile, *hosts: str) -> Identity:
            key = files.generate()
            public = key.public_key()
            certificate = authority.issue(profile, _IDENTITY, public, wall=wall, hosts=hosts)
            return Identity(certificate, key, authority.certificate)

        self.key = random(16)
        self.identity, self.gateway = identity(DEVICE), identity(GATEWAY, "localhost")

    def psk(self, identity: bytes) -> PreSharedKey | None:
        return PreSharedKey(_IDENTITY, self.key) if identity == _IDENTITY.encode() else None

    def bearer(self, certificate: x509.Certificate) -> str | Refusal:
        return _IDENTITY if certificate == self.identity.certificate else Refusal.WITHDRAWN


def handshake(suite: str, offered: Sequence[str], random: Callable[[int], bytes]) -> None:
    """Shake hands with ``suite`` alone, of those offered, and pass one record each way.

    Raises DtlsError that names the suite.
    """
    device = _OneDevice(random)
    engines = OpensslServer(device, random(32), offered, device.gateway)
    server = Server(Config(), engines, Cookies(random(32), random), first_number=1)
    try:
        client = Client(_client(device, suite), mtu=1232, now=0.0)
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


def _client(device: _OneDevice, suite: str) -> ClientFactory:
    if suite in certificate_suites():
        return OpensslCertifiedClient(device.identity, [suite])
    return OpensslClient(_IDENTITY.encode(), device.key, [suite])


def all_suites(random: Callable[[int], bytes]) -> list[str]:
    """Handshake with each suite; their names. Raises DtlsError for the first that fails."""
    suites = [*psk_suites(), *certificate_suites()]
    for suite in suites:
        handshake(suite, suites, random)
    return suites
