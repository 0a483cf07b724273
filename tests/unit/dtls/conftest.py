"""A server and clients joined in memory, with time as an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from gateway.dtls.association import Association, Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import PreSharedKey
from gateway.dtls.engines import Engine
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config, Server

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

    def __init__(self, factory: OpensslClient) -> None:
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


class World:
    """One server and as many links as a test wants."""

    def __init__(self, config: Config | None = None) -> None:
        self.random = random.Random(7).randbytes
        engines = OpensslServer(Devices(), self.random(32), psk_suites())
        cookies = Cookies(self.random(32), self.random)
        self.server = Server(config or Config(), engines, cookies, first_number=100)

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
