"""The gateway's table of associations in this process, with time as an argument."""

from __future__ import annotations

import random
import time
from functools import cache
from typing import TYPE_CHECKING

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE, GATEWAY, Profile
from gateway.dtls.association import Path
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import Identity, PreSharedKey, Refusal
from gateway.dtls.engines.openssl import OpensslServer
from gateway.dtls.records import SUITES
from gateway.dtls.server import Config, Server
from tests.experiments.rigs.puppet import Puppet

if TYPE_CHECKING:
    from cryptography import x509

KEY = b"sixteen bytes ok"


class Devices:
    """Every name is a device's but ``nobody``, and every device of the ward may come."""

    def psk(self, identity: bytes) -> PreSharedKey | None:
        return None if identity == b"nobody" else PreSharedKey(identity.decode(), KEY)

    def bearer(self, certificate: x509.Certificate) -> str | Refusal:
        return "certified"


@cache
def _authority() -> Authority:
    return Authority.passing("Ward 7", wall=time.time())


@cache
def identity(profile: Profile) -> Identity:
    """Of the one authority here."""
    key = files.generate()
    hosts = ("localhost",) if profile.hosts else ()
    certificate = _authority().issue(
        profile, profile.role, key.public_key(), wall=time.time(), hosts=hosts
    )
    return Identity(certificate, key, _authority().certificate)


def path(number: int, host: str | None = None) -> Path:
    """One of 16 million addresses, if none is given."""
    made = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Path(0, (host or made, 1024 + number % 60_000))


class Inside:
    """One server, and puppets to play with it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        engines = OpensslServer(Devices(), bytes(32), SUITES, identity(GATEWAY))
        cookies = Cookies(self.chance.randbytes(32), self.chance.randbytes)
        self.server = Server(Config(), engines, cookies, first_number=1)

    def puppet(self, *, certified: bool = False, key: bytes = KEY, name: str = "d") -> Puppet:
        if certified:
            return Puppet(self.chance, certificate=identity(DEVICE))
        return Puppet(self.chance, identity=name.encode(), key=key)

    def give(self, datagram: bytes, at: Path) -> list[bytes]:
        """The plaintexts that come of one datagram."""
        received = self.server.receive(datagram, at, self.now)
        return [] if received is None else list(received[1])

    def take(self) -> list[bytes]:
        """What the server wants sent."""
        out = [datagram for datagram, _ in self.server.outgoing]
        self.server.outgoing.clear()
        return out

    def greet(self, puppet: Puppet, at: Path) -> None:
        """Up to the gateway's HelloDone."""
        for _ in range(2):
            self.give(puppet.hello(), at)
            puppet.hear(self.take())

    def shake_hands(self, puppet: Puppet, at: Path) -> list[bytes]:
        """All of it; the puppet's datagrams."""
        self.greet(puppet, at)
        flight = puppet.flight()
        for one in flight:
            self.give(one, at)
        puppet.hear(self.take())
        return flight
