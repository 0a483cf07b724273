"""Sockets to disk and back: a real server and real nodes, intake, both lanes, store and writer."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.coap.exchanges import Exchanges
from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config as ServerConfig
from gateway.dtls.server import Server
from gateway.ingress.aiocoap_lane import AiocoapLane
from gateway.ingress.driver import Driver
from gateway.ingress.rate import Rates
from gateway.intake import Admitted
from gateway.lane import Lane
from gateway.outbox.connection import Connection, Cursor, connect
from gateway.outbox.store import Store
from gateway.outbox.writer import Config as OutboxConfig
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator, Callable, Sequence

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


class Bench:
    """The inside of a gateway, from the socket to the disk."""

    def __init__(self, desk: Desk, folder: pathlib.Path) -> None:
        self.desk = desk
        self.folder = folder
        self.clock = Clock(desk.wall)
        self.disk = Disk()
        self.nodes: list[Node] = []
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


@pytest.fixture
async def bench(desk: Desk, tmp_path: pathlib.Path) -> AsyncIterator[Bench]:
    bench = Bench(desk, tmp_path)
    await bench.start()
    yield bench
    await bench.stop()


def hr(value: float) -> bytes:
    """A pack without any time: always a new measurement."""
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}])


def counted(value: float, seq: int) -> bytes:
    """A pack with the device's counters: the same bytes are the same message."""
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}, {0: "boot", 2: 1}, {0: "seq", 2: seq}])


async def test_an_answer_comes_after_the_commit_and_not_before(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    bench.disk.reached.clear()
    node.sends(bench.post(hr(72), mid=77, token=b"abc"))
    assert await asyncio.to_thread(bench.disk.reached.wait, 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert node.heard == []
    bench.disk.free.set()
    await bench.settled()
    (answer,) = node.hears()
    assert answer == Message(Type.ACK, Code.CHANGED, 77, b"abc", (), b"")
    assert bench.stored() == 1


async def test_what_is_stored_can_be_opened_by_who_may(bench: Bench) -> None:
    """The record is the device's whatever the payload says, and carries what was sent."""
    node = bench.node()
    node.sends(bench.post(hr(72)))
    await bench.settled()
    (entry,) = await bench.entries()
    opened = bench.desk.open(entry, "doctor")
    assert (opened.plaintext.device, opened.plaintext.patient) == ("bracelet-1", "P1")
    assert cbor2.loads(opened.plaintext.senml or b"")[0][2] == 72
    assert opened.header.received_ms == int(bench.clock.utc * 1000)
    assert b"P1" not in entry.sealed


async def test_a_repeated_message_gets_the_same_bytes_and_is_stored_once(bench: Bench) -> None:
    node = bench.node()
    message = bench.post(hr(72))
    node.sends(message)
    await bench.settled()
    (first,) = node.heard
    node.heard.clear()
    for _ in range(3):
        bench.clock.now += 2
        node.sends(message)
    assert node.heard == [first] * 3
    await bench.settled()
    assert bench.stored() == 1
    assert bench.driver.counts["replayed"] == 3


async def test_a_message_repeated_while_it_is_being_stored_is_dropped(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    message = bench.post(hr(72))
    node.sends(message, message)
    node.sends(message)
    bench.disk.free.set()
    await bench.settled()
    assert len(node.heard) == 1
    assert bench.stored() == 1
    assert bench.driver.counts["in_progress"] == 2


async def test_other_bytes_under_the_same_id_are_a_new_message(bench: Bench) -> None:
    """Losing a measurement is worse than storing it twice."""
    node = bench.node()
    node.sends(bench.post(hr(72), mid=5))
    await bench.settled()
    node.sends(bench.post(hr(73), mid=5))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED] * 2
    assert bench.stored() == 2


async def test_two_devices_may_use_the_same_ids(bench: Bench) -> None:
    one, two = bench.node("bracelet-1"), bench.node("bracelet-2")
    message = bench.post(hr(72), mid=9)
    bench.receive(*one.writes(message), *two.writes(message))
    await bench.settled()
    assert len(one.heard) == len(two.heard) == 1
    assert {device for _, device in bench.admitted} == {"bracelet-1", "bracelet-2"}
    assert bench.stored() == 2


@pytest.mark.parametrize(
    ("payload", "how", "code"),
    [
        (b"\xff", {}, Code.BAD_REQUEST),
        (cbor2.dumps([]), {}, Code.BAD_REQUEST),
        (hr(10_000), {}, Code.BAD_REQUEST),
        (b"{}", {"content_format": SENML_JSON}, Code.BAD_REQUEST),
        (cbor2.dumps([{-2: "bracelet-2/", 0: "hr", 2: 72}]), {}, Code.FORBIDDEN),
        (b"\x80" + b"x" * 8200, {}, Code.REQUEST_ENTITY_TOO_LARGE),
        (b"no COSE", {"path": ("s",), "content_format": 16}, Code.BAD_REQUEST),
    ],
)
async def test_what_is_refused_is_answered_at_once_with_a_reason(
    bench: Bench, payload: bytes, how: dict[str, Any], code: Code
) -> None:
    """The same answer to the same message again; nothing is stored, nothing is remembered."""
    node = bench.node()
    message = bench.post(payload, **how)
    node.sends(message)
    (answer,) = node.hears()
    assert (answer.type, answer.code, answer.token) == (Type.ACK, code, b"tk")
    assert answer.payload or answer.uint(Option.SIZE1)
    node.sends(message)
    assert node.hears() == [answer]
    node.sends(bench.post(hr(72)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_a_revoked_device_is_refused_while_its_association_lives(bench: Bench) -> None:
    node = bench.node()
    bench.desk.devices.revoke("bracelet-1", today="2027")
    bench.desk.ward.refresh()
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.FORBIDDEN
    assert b"revoked" in answer.payload


async def test_a_refused_message_is_a_new_attempt_when_it_comes_again(bench: Bench) -> None:
    """The very same datagram, once there is a token: 4.29 is not remembered for it."""
    bench.rates.per_s = 1
    node = bench.node()
    posts = [bench.post(hr(72)) for _ in range(3)]
    node.sends(*posts)
    await bench.settled()
    answers = {one.mid: one.code for one in node.hears()}
    codes = [answers[decode_untrusted(post).mid] for post in posts]
    refused = posts[codes.index(Code.TOO_MANY_REQUESTS)]
    bench.clock.now += 5.0
    node.sends(refused)
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]


async def test_a_device_over_its_rate_is_told_when_to_come_back(bench: Bench) -> None:
    """Its emergencies have a rate of their own; other devices are not held back."""
    bench.rates.per_s = 1
    bench.emergency_rates.per_s = 1
    node, other = bench.node(), bench.node("bracelet-2")
    node.sends(*(bench.post(hr(72)) for _ in range(5)))
    node.sends(*(bench.post(hr(72), path=("a",)) for _ in range(3)))
    other.sends(bench.post(hr(72)))
    await bench.settled()
    answers = node.hears()
    assert Counter(one.code for one in answers) == {Code.TOO_MANY_REQUESTS: 4, Code.CHANGED: 4}
    refused = next(one for one in answers if one.code == Code.TOO_MANY_REQUESTS)
    assert refused.uint(Option.MAX_AGE) == 1
    assert [one.code for one in other.hears()] == [Code.CHANGED]
    status = bench.writer.status()
    assert (status.lanes[Lane.EMERGENCY].rows, status.lanes[Lane.ROUTINE].rows) == (2, 3)


async def test_a_full_outbox_refuses_routine_and_takes_emergencies(bench: Bench) -> None:
    """5.03 with Max-Age, before anything is queued."""
    node = bench.node()
    big = cbor2.dumps([{0: f"x{number}", 3: "y" * 40} for number in range(20)])
    answers: list[Message] = []
    while not any(one.code == Code.SERVICE_UNAVAILABLE for one in answers):
        assert len(answers) < 100
        node.sends(bench.post(big))
        await bench.settled()
        answers += node.hears()
    assert (answers[-1].uint(Option.MAX_AGE) or 0) >= 1
    before = bench.stored()
    node.sends(bench.post(big, path=("alarm",)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == before + 1


async def test_a_gateway_that_stops_takes_nothing_new(bench: Bench) -> None:
    node = bench.node()
    bench.driver.refusing = "the gateway is stopping"
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.SERVICE_UNAVAILABLE
    assert answer.uint(Option.MAX_AGE) == 3
    assert bench.stored() == 0


async def test_who_cannot_be_read_by_anybody_is_a_fault_of_ours(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """5.00, and a line for the operator."""
    for name in ("doctor", "alarm-centre"):
        bench.desk.narrow(name, "P1")
    node = bench.node("bracelet-2")
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.INTERNAL_SERVER_ERROR
    assert "cannot be sealed" in caplog.text
    assert bench.stored() == 0


async def test_a_message_that_asks_for_no_confirmation_gets_an_answer_of_its_own(
    bench: Bench,
) -> None:
    """NON, with Message IDs of ours that do not repeat; a copy is answered and stored once."""
    node = bench.node()
    messages = [bench.post(hr(72), kind=Type.NON, token=bytes([number])) for number in range(20)]
    node.sends(*messages)
    node.sends(messages[0])
    await bench.settled()
    node.sends(messages[1])
    answers = node.hears()
    assert {(one.type, one.code) for one in answers} == {(Type.NON, Code.CHANGED)}
    assert {one.token for one in answers} == {bytes([number]) for number in range(20)}
    assert len({one.mid for one in answers}) == 20
    assert bench.stored() == 20


async def test_who_wants_no_answer_gets_none(bench: Bench) -> None:
    """No-Response (RFC 7967): an empty acknowledgement to a CON, silence to a NON."""
    node = bench.node()
    silence = [(int(Option.NO_RESPONSE), b"\x02")]
    node.sends(
        bench.post(hr(72), kind=Type.NON, extra=silence), bench.post(hr(72), mid=70, extra=silence)
    )
    await bench.settled()
    assert node.hears() == [Message(Type.ACK, Code.EMPTY, 70, b"", (), b"")]
    assert bench.stored() == 2


async def test_a_pack_sent_again_over_a_new_association_is_stored_once(bench: Bench) -> None:
    """By the device's counters; and acknowledged, or it would come for ever."""
    bench.node().sends(bench.post(counted(72, 1)))
    await bench.settled()
    again = bench.node()
    again.sends(bench.post(counted(72, 1)))
    await bench.settled()
    assert [one.code for one in again.hears()] == [Code.CHANGED]
    assert bench.stored() == 1
    again.sends(bench.post(counted(72, 2)))
    await bench.settled()
    assert bench.stored() == 2


async def test_a_pack_sent_again_after_a_restart_is_stored_once(bench: Bench) -> None:
    bench.node().sends(bench.post(counted(72, 1)))
    await bench.settled()
    await bench.restart()
    node = bench.node()
    node.sends(bench.post(counted(72, 1)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_equal_measurements_are_two_measurements(bench: Bench) -> None:
    node = bench.node()
    node.sends(bench.post(hr(72)), bench.post(hr(72)))
    await bench.settled()
    assert bench.stored() == 2


async def test_a_pack_sent_again_while_the_first_is_being_stored_is_not_acknowledged(
    bench: Bench,
) -> None:
    """Not before it is on disk; then the device's next try is."""
    first, second = bench.node(), bench.node()
    await bench.settled()
    bench.disk.free.clear()
    first.sends(bench.post(counted(72, 1)))
    again = bench.post(counted(72, 1))
    second.sends(again)
    assert second.heard == []
    bench.disk.free.set()
    await bench.settled()
    assert second.heard == []
    second.sends(again)
    await bench.settled()
    assert [one.code for one in second.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_a_burst_of_everything(bench: Bench) -> None:
    """Garbage, strangers, refusals and both lanes between good packs: each gets its own."""
    node, other = bench.node(), bench.node("bracelet-2")
    good = [bench.post(hr(60 + number)) for number in range(10)]
    datagrams = node.writes(*good)
    tampered = bytes([*datagrams[0][0][:-1], datagrams[0][0][-1] ^ 1])
    bench.receive(
        (b"", node.path),
        (os.urandom(100), node.path),
        (tampered, node.path),
        *datagrams[:5],
        (os.urandom(100), Path(0, ("203.0.113.9", 9))),
        *other.writes(bench.post(b"\xff"), bench.post(hr(50), path=("alarm",)), b"\x40"),
        *datagrams[5:],
        datagrams[9],  # the very same record: replay protection drops it
    )
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED] * 10
    assert sorted(one.code for one in other.hears()) == [Code.CHANGED, Code.BAD_REQUEST]
    status = bench.writer.status()
    assert (status.lanes[Lane.EMERGENCY].rows, status.lanes[Lane.ROUTINE].rows) == (1, 10)


async def test_an_exception_costs_its_message_and_a_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the burst; and the message may come again."""
    bad, good = bench.node("bracelet-2"), bench.node("bracelet-1")
    assignment = bench.desk.ward.assignment("bracelet-2")
    assert assignment is not None
    readers = dict(assignment.readers)
    assignment.readers.clear()  # a KeyError in the middle of the intake
    message = bench.post(counted(72, 1))
    bench.receive(
        *good.writes(bench.post(hr(70))), *bad.writes(message), *good.writes(bench.post(hr(71)))
    )
    await bench.settled()
    assert [one.code for one in good.hears()] == [Code.CHANGED] * 2
    assert bad.heard == []
    assert bench.driver.counts["bug"] == 1
    assert "because of a bug" in caplog.text
    assignment.readers.update(readers)
    bad.sends(message)
    await bench.settled()
    assert [one.code for one in bad.hears()] == [Code.CHANGED]
    assert bench.stored() == 3


async def test_a_broken_disk_acknowledges_nothing(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.broken = True
    bench.disk.reached.clear()
    node.sends(bench.post(hr(72)))
    assert "the disk is broken" in str(await asyncio.wait_for(bench.failure, 5))
    for _ in range(20):
        await asyncio.sleep(0)
    assert node.heard == []


async def test_the_other_lane_stores_as_well_and_answers_after_the_commit(bench: Bench) -> None:
    """Block1, which the fast lane does not claim; the same intake, the same promise."""
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    bench.disk.reached.clear()
    block = [(int(Option.BLOCK1), b"\x06")]
    node.sends(bench.post(hr(72), mid=7, extra=block))
    assert await asyncio.to_thread(bench.disk.reached.wait, 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(one.code == Code.CHANGED for one in node.hears())
    bench.disk.free.set()
    await bench.settled()
    await bench.answers(node)
    (answer,) = node.hears()
    assert answer.code == Code.CHANGED
    assert bench.stored() == 1


async def test_both_lanes_recognise_each_others_packs(bench: Bench) -> None:
    node = bench.node()
    node.sends(bench.post(counted(72, 1)))
    await bench.settled()
    block = [(int(Option.BLOCK1), b"\x06")]
    node.hears()
    node.sends(bench.post(counted(72, 1), extra=block))
    await bench.answers(node)
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_the_gateway_answers_what_is_not_telemetry(bench: Bench) -> None:
    node = bench.node()
    get = Message(Type.CON, Code.GET, 9, b"t", ((int(Option.URI_PATH), b"time"),), b"")
    node.sends(encode(get))
    await bench.answers(node)
    (answer,) = node.hears()
    assert (answer.type, answer.code, answer.mid) == (Type.ACK, Code.CONTENT, 9)


async def test_after_its_association_has_ended_nothing_is_sent_to_a_node(bench: Bench) -> None:
    """What it sent is stored all the same."""
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    node.sends(bench.post(hr(72)))
    assert node.client.association is not None
    node.client.outgoing.append(node.client.association.close())
    bench.receive(*node.datagrams())
    assert bench.server.associations() == []
    before = bench.sent_datagrams
    bench.disk.free.set()
    await bench.settled()
    assert bench.sent_datagrams == before
    assert bench.stored() == 1


async def test_repetitions_are_forgotten_after_their_lifetime(bench: Bench) -> None:
    """247 s (RFC 7252 section 4.8.2): a device may use its IDs again."""
    node = bench.node()
    message = bench.post(hr(72))
    node.sends(message)
    await bench.settled()
    bench.clock.now += 248
    bench.driver.sweep(bench.clock.now)
    node.sends(message)
    await bench.settled()
    assert bench.stored() == 2


async def test_a_declared_emergency_goes_before_what_came_with_it(bench: Bench) -> None:
    """However far behind it stood in the burst."""
    node, other = bench.node(), bench.node("bracelet-2")
    burst = node.writes(*(bench.post(hr(60 + n)) for n in range(20)))
    bench.receive(*burst, *other.writes(bench.post(hr(70), path=("a",))))
    assert bench.admitted[0][1] == "bracelet-2"
    assert len(bench.admitted) == 21
    await bench.settled()


async def test_an_emergency_overtakes_what_waits_for_its_turn(bench: Bench) -> None:
    """When there is more than can be taken in at once, the sockets are read again in between."""
    node, other = bench.node(), bench.node("bracelet-2")
    bench.clock.hurry, bench.held = 1.0, []
    node.sends(*(bench.post(hr(60 + n)) for n in range(150)))
    taken = len(bench.admitted)
    assert 0 < taken < 150
    node.sends(bench.post(hr(55)))
    other.sends(bench.post(hr(70), path=("a",)))
    assert [device for _, device in bench.admitted[taken:]] == ["bracelet-2"]
    while bench.turn():
        pass
    assert {device for _, device in bench.admitted[taken + 1 :]} == {"bracelet-1"}
    assert len(bench.admitted) == 152
    await bench.settled()
    assert Counter(one.code for one in node.hears()) == {Code.CHANGED: 151}


async def test_what_is_shed_is_new_when_it_comes_again(bench: Bench) -> None:
    """And a flood does not shed the only message of another device."""
    node, other = bench.node(), bench.node("bracelet-2")
    bench.clock.hurry, bench.held = 1.0, []
    flood = [bench.post(hr(60 + n % 100)) for n in range(1200)]
    for start in range(0, 1200, 150):
        node.sends(*flood[start : start + 150])
    shed = bench.driver.counts["shed"]
    assert shed
    other.sends(bench.post(hr(70)))
    assert bench.driver.counts["shed"] == shed
    while bench.turn():
        pass
    await bench.settled()
    assert len(node.hears()) == 1200 - shed
    assert len(other.hears()) == 1
    node.sends(flood[-1])
    await bench.settled()
    assert len(node.hears()) == 1
    assert bench.driver.counts["in_progress"] == 0
