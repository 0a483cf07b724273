"""A real server and real nodes, intake, both lanes, store and writer; no sockets."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from gateway.coap.exchanges import Exchanges
from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config as ServerConfig
from gateway.dtls.server import Server
from gateway.ingress.addresses import Peers
from gateway.ingress.aiocoap_lane import AiocoapLane
from gateway.ingress.driver import Driver
from gateway.ingress.rate import Rates
from gateway.intake import Admitted
from gateway.lane import Lane
from gateway.outbox.config import Config as OutboxConfig
from gateway.outbox.connection import Connection, Cursor, connect
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Sequence

    from gateway.intake import Intake, Offer, Outcome
    from tests.unit.conftest import Desk

KEY = b"sixteen bytes ok"
SENML_CBOR, SENML_JSON = 112, 110


class Clock:
    def __init__(self, wall: float) -> None:
        self.now = 1000.0
        self.utc = wall
        self.hurry = 0.0
        """Seconds that pass with each look at it."""

    def monotonic(self) -> float:
        self.now += self.hurry
        return self.now

    def wall(self) -> float:
        return self.utc

    def synchronised(self) -> bool:
        return True


class Disk:
    """Holds a commit back, or breaks at it, when the test says so."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.reached = threading.Event()
        self.broken = False
        self.full = False

    def connect(self, path: pathlib.Path) -> Connection:
        return _OnDisk(connect(path), self)


class _OnDisk:
    def __init__(self, connection: Connection, disk: Disk) -> None:
        self._connection, self._disk = connection, disk

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if sql == "COMMIT":
            self._disk.reached.set()
            assert self._disk.free.wait(20)
            if self._disk.broken:
                raise OSError("planted: the disk is broken")
            if self._disk.full:
                no_room = sqlite3.OperationalError("planted: the disk is full")
                no_room.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise no_room
        return self._connection.execute(sql, parameters)

    def close(self) -> None:
        self._connection.close()


class Node:
    """A bracelet: its client, its address, and the messages that it has been sent."""

    def __init__(self, bench: Bench, name: str, port: int) -> None:
        self.bench = bench
        self.path = Path(0, ("192.0.2.1", port))
        self.client = Client(
            OpensslClient(name.encode(), KEY, ["PSK-AES128-CCM8"]), mtu=1232, now=bench.clock.now
        )
        self.heard: list[bytes] = []

    def shake_hands(self) -> None:
        for _ in range(10):
            self.bench.receive(*self.datagrams())
            if self.client.association is not None and not self.client.outgoing:
                return
        raise AssertionError("no handshake")

    def datagrams(self) -> list[tuple[bytes, Path]]:
        out, self.client.outgoing = self.client.outgoing, []
        return [(datagram, self.path) for datagram in out]

    def writes(self, *messages: bytes) -> list[tuple[bytes, Path]]:
        """These, as datagrams."""
        for one in messages:
            self.client.send(one)
        return self.datagrams()

    def sends(self, *messages: bytes) -> None:
        """These, each as a datagram, all in one burst."""
        self.bench.receive(*self.writes(*messages))

    def hears(self) -> list[Message]:
        heard, self.heard = self.heard, []
        return [decode_untrusted(one) for one in heard]


class Overheard:
    """An intake that tells what it has admitted."""

    def __init__(self, intake: Intake, tell: Callable[[Admitted, str], None]) -> None:
        self._intake = intake
        self._tell = tell

    def admit(self, offers: Sequence[Offer], *, now: float, wall: float) -> list[Outcome]:
        outcomes = self._intake.admit(offers, now=now, wall=wall)
        for offer, outcome in zip(offers, outcomes, strict=True):
            if isinstance(outcome, Admitted):
                self._tell(outcome, offer.endpoint.device)
        return outcomes

    def stored(self, key: bytes) -> None:
        self._intake.stored(key)

    def refused(self, key: bytes) -> None:
        self._intake.refused(key)


class Bench:
    """The inside of a gateway, from the socket to the disk."""

    def __init__(self, desk: Desk, folder: pathlib.Path) -> None:
        self.desk = desk
        self.folder = folder
        self.clock = Clock(desk.wall)
        self.disk = Disk()
        self.nodes: list[Node] = []
        self.peers = Peers(0)
        self._ports = count(10_000)
        self._mids = count(1)
        self.admitted: list[tuple[Admitted, str]] = []
        self.sent = asyncio.Event()
        self.sent_datagrams = 0
        self.held: list[Callable[[], None]] | None = None
        """What the driver has left for later, if the test lets it go on."""

    async def start(self) -> None:
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        randomness = random.Random(7).randbytes
        self.writer = Writer(
            lambda: Store(self.folder / "outbox.db", connect=self.disk.connect),
            OutboxConfig(max_bytes=1 << 17, reserve_bytes=1 << 16),
            self.clock,
        )
        await self.writer.start(
            on_committed=lambda tokens: self.driver.committed(tokens),
            on_refused=lambda tokens, error: self.driver.refused(tokens, error),
            on_failure=self.failure.set_result,
        )
        self.server = Server(
            ServerConfig(),
            OpensslServer(self.desk.ward.devices, randomness(32), psk_suites()),
            Cookies(randomness(32), randomness),
            first_number=int.from_bytes(os.urandom(4)),
        )
        self.intake = self.desk.intake(
            recent=await self.writer.recent_keys(), check_room=self.writer.check_room
        )
        self.rates, self.emergency_rates = Rates(0), Rates(0)
        self.driver = Driver(
            server=self.server,
            exchanges=Exchanges(),
            intake=Overheard(self.intake, self.admitted_one),
            writer=self.writer,
            rates=self.rates,
            emergency_rates=self.emergency_rates,
            clock=self.clock,
            send=self.send,
            keep=self.peers.keep,
            forget=self.peers.forget,
            later=self.later,
        )
        self.lane = AiocoapLane(self.driver.send, self.driver, self.clock)
        await self.lane.start()
        self.driver.connect(self.lane)

    async def stop(self) -> None:
        self.disk.free.set()
        await self.lane.stop()
        await self.writer.close()

    async def restart(self) -> None:
        await self.stop()
        self.nodes.clear()
        await self.start()

    def admitted_one(self, admitted: Admitted, device: str) -> None:
        self.admitted.append((admitted, device))
        self.desk.keep(admitted.envelope)

    def node(self, name: str = "bracelet-1") -> Node:
        node = Node(self, name, next(self._ports))
        self.nodes.append(node)
        node.shake_hands()
        return node

    def receive(self, *burst: tuple[bytes, Path]) -> None:
        self.driver.receive(list(burst), self.clock.now, self.clock.utc)

    def later(self, callback: Callable[[], None]) -> None:
        if self.held is None:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self.held.append(callback)

    def turn(self) -> bool:
        """Let the driver go on with what it left for later, if it did."""
        assert self.held is not None
        held, self.held = self.held, []
        for callback in held:
            callback()
        return bool(held)

    def send(self, datagrams: list[tuple[bytes, Path]]) -> None:
        self.sent_datagrams += len(datagrams)
        for datagram, path in datagrams:
            for node in self.nodes:
                if node.path == path:
                    node.heard += node.client.receive(datagram, self.clock.now)
                    self.sent.set()

    async def answers(self, node: Node) -> None:
        """Until the node has heard something: the other lane answers from a task."""
        async with asyncio.timeout(5):
            while not node.heard:
                self.sent.clear()
                await self.sent.wait()

    async def settled(self) -> None:
        """Until what is queued is on disk and answered."""
        for _ in range(3):
            await self.writer.flush()
            await asyncio.sleep(0)

    def stored(self) -> int:
        return sum(lane.rows for lane in self.writer.status().lanes.values())

    async def entries(self, lane: Lane = Lane.ROUTINE) -> list[Any]:
        return [one.entry for one in await self.writer.lease(lane, 1000, 1 << 20, now=0)]

    def post(
        self,
        payload: bytes,
        *,
        path: Sequence[str] = ("v",),
        kind: Type = Type.CON,
        mid: int | None = None,
        token: bytes = b"tk",
        content_format: int = SENML_CBOR,
        extra: Sequence[tuple[int, bytes]] = (),
    ) -> bytes:
        options = [(int(Option.URI_PATH), one.encode()) for one in path]
        options.append((int(Option.CONTENT_FORMAT), bytes([content_format])))
        options = sorted([*options, *extra], key=lambda one: one[0])
        number = next(self._mids) if mid is None else mid
        return encode(Message(kind, Code.POST, number, token, tuple(options), payload))
