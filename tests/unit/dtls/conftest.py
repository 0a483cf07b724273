"""A server and clients joined in memory, with time and weather as arguments."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gateway.dtls.association import Association, Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import PreSharedKey
from gateway.dtls.engines import Engine
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config, Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dtls.client import ClientFactory
    from gateway.dtls.credentials import Credentials, Identity

KEY = b"sixteen bytes ok"


class Devices:
    """Knows device-0 to device-99, all with the same key."""

    def psk(self, identity: bytes) -> PreSharedKey | None:
        name = identity.decode()
        prefix, _, number = name.partition("-")
        return PreSharedKey(name, KEY) if prefix == "device" and number.isdigit() else None


def path(number: int = 1) -> Path:
    return Path(0, ("192.0.2.1", 10_000 + number))


class Recorded:
    """Keeps the engine, so that a test can act with the client's keys."""

    def __init__(self, factory: ClientFactory) -> None:
        self.factory = factory
        self.made: list[Engine] = []

    def engine(self, mtu: int) -> Engine:
        self.made.append(self.factory.engine(mtu))
        return self.made[-1]


@dataclass
class Link:
    """Carries datagrams between one server and one client."""

    server: Server
    client: Client
    engine: Engine
    path: Path
    now: float = 0.0
    received: list[bytes] = field(default_factory=list)
    association: Association | None = None

    def to_server(self) -> None:
        out, self.client.outgoing = self.client.outgoing, []
        for datagram in out:
            self.deliver(datagram)

    def deliver(self, datagram: bytes) -> None:
        received = self.server.receive(datagram, self.path, self.now)
        if received is not None:
            self.association = received[0]
            self.received += received[1]

    def to_client(self) -> list[bytes]:
        plaintexts = []
        mine = [one for one in self.server.outgoing if one[1] == self.path]
        self.server.outgoing = [one for one in self.server.outgoing if one[1] != self.path]
        for datagram, _ in mine:
            plaintexts += self.client.receive(datagram, self.now)
        return plaintexts

    def shake_hands(self) -> Association:
        for _ in range(4):
            self.to_server()
            self.to_client()
        assert self.association is not None
        return self.association

    def weathered(self, weather: random.Random) -> Association | None:
        """Shake hands while every datagram meets deliver, drop, doubling or delay."""
        late: list[tuple[bool, bytes]] = []
        for tick in range(400):
            self.now = tick * 0.1
            up, self.client.outgoing = self.client.outgoing, []
            down = [one for one, to in self.server.outgoing if to == self.path]
            self.server.outgoing = []
            moving, late = late, []
            moving += [(True, one) for one in up] + [(False, one) for one in down]
            for upwards, datagram in moving:
                fate = weather.choices(("deliver", "drop", "double", "delay"), (6, 2, 1, 1))[0]
                if fate == "delay":
                    late.append((upwards, datagram))
                    continue
                for _ in range({"deliver": 1, "drop": 0, "double": 2}[fate]):
                    if upwards:
                        self.deliver(datagram)
                    else:
                        self.client.receive(datagram, self.now)
            if self.association and self.client.association:
                return self.association
            self.client.handle_timer(self.now)
            self.server.sweep(self.now)
        return None


class World:
    """One server and as many links as a test wants."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        credentials: Credentials | None = None,
        suites: Iterable[str] = (),
        identity: Identity | None = None,
    ) -> None:
        self.random = random.Random(7).randbytes
        self.config = config or Config()
        self.engines = OpensslServer(
            credentials or Devices(), self.random(32), suites or psk_suites(), identity
        )
        cookies = Cookies(self.random(32), self.random)
        self.server = Server(self.config, self.engines, cookies, first_number=100)

    def connect(self, factory: ClientFactory, number: int = 1) -> Link:
        """A link whose client proves itself by whatever the factory has."""
        engines = Recorded(factory)
        client = Client(engines, mtu=self.config.mtu, now=0.0)
        return Link(self.server, client, engines.made[0], path(number))

    def link(
        self,
        number: int = 1,
        *,
        identity: str = "device-1",
        key: bytes = KEY,
        suite: str = "PSK-AES128-CCM8",
        now: float = 0.0,
    ) -> Link:
        engines = Recorded(OpensslClient(identity.encode(), key, [suite]))
        client = Client(engines, mtu=1232, now=now)
        return Link(self.server, client, engines.made[0], path(number), now)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> type[World]:
    return World
