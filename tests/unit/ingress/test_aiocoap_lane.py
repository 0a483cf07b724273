"""The lane with the real aiocoap behind it, in memory: a transcript per behaviour."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
from collections.abc import AsyncIterator, Callable

import aiocoap
import cbor2
import pytest
from aiocoap.resource import ObservableResource

from gateway.coap.fastlane import Kind, claim
from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.coap.options import Block
from gateway.endpoint import Endpoint
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    OutboxFull,
    PeerError,
    SealError,
    TooLargeError,
    TooManyRequestsError,
)
from gateway.ingress.aiocoap_lane import AiocoapLane
from gateway.ingress.guard import Config
from gateway.ingress.resources import Link, Resource

BED = Endpoint(1, "bed-1")
OTHER = Endpoint(2, "bed-2")

VITALS = ((11, b"vitals"), (12, b"\x70"))


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.is_synchronised = True

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_800_000_000.5

    def synchronised(self) -> bool:
        return self.is_synchronised


class RecordingIntake:
    """Stores at once, or when the test says so, or fails as the test says."""

    def __init__(self) -> None:
        self.admitted: list[tuple[Endpoint, Kind, int, bytes]] = []
        self.error: PeerError | OutboxFull | SealError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def admit(
        self, endpoint: Endpoint, kind: Kind, content_format: int, payload: bytes
    ) -> None:
        if self.error is not None:
            raise self.error
        self.admitted.append((endpoint, kind, content_format, payload))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Ticker(Resource, ObservableResource):  # type: ignore[misc]
    """A resource that changes when the test says so."""

    def __init__(self) -> None:
        super().__init__({Code.GET: self._get})
        self.link = Link("test.ticker", "test", (0,))
        self.text = "0"

    async def _get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=Code.CONTENT, payload=self.text.encode())

    def becomes(self, text: str) -> None:
        self.text = text
        self.updated_state()


class Bench:
    """One lane; what it sends; time that the test moves."""

    def __init__(self, config: Config | None = None) -> None:
        self.clock = FakeClock()
        self.intake = RecordingIntake()
        self.ticker = Ticker()
        self.sent: list[tuple[Endpoint, bytes]] = []
        self.lane = AiocoapLane(
            lambda endpoint, datagram: self.sent.append((endpoint, datagram)),
            self.intake,
            self.clock,
            config or Config(),
            {("ticker",): self.ticker},
        )
        self._mids = itertools.count(1)

    def sends(
        self,
        *options: tuple[int, bytes],
        code: int = Code.GET,
        kind: Type = Type.CON,
        payload: bytes = b"",
        token: bytes | None = None,
        mid: int | None = None,
        endpoint: Endpoint = BED,
    ) -> int:
        mid = next(self._mids) if mid is None else mid
        token = mid.to_bytes(2, "big") if token is None else token
        raw = encode(Message(kind, code, mid, token, options, payload))
        self.lane.receive(endpoint, raw, self.clock.now)
        return mid

    async def hears(self) -> list[Message]:
        """Everything sent since the last call, once nothing is ready any more."""
        for _ in range(20):
            await asyncio.sleep(0)
        sent = [decode_untrusted(raw) for _, raw in self.sent]
        self.sent.clear()
        return sent

    async def asks(self, *options: tuple[int, bytes], **how: object) -> Message:
        """The one answer to a request, which must be piggybacked."""
        mid = self.sends(*options, **how)  # type: ignore[arg-type]
        (answer,) = await self.hears()
        assert (answer.type, answer.mid) == (Type.ACK, mid)
        assert answer.code == Code.EMPTY or answer.token == mid.to_bytes(2, "big")
        return answer

    async def passes(self, seconds: float) -> None:
        """Move the event loop's time and ours."""
        loop = asyncio.get_running_loop()
        then = loop.time() + seconds
        loop.time = lambda: then  # type: ignore[method-assign]
        self.clock.now += seconds
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def bench(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Bench]:
    """An unexpected warning in the log fails the test."""
    one = Bench()
    await one.lane.start()
    yield one
    await one.lane.stop()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def path(*parts: str) -> tuple[tuple[int, bytes], ...]:
    return tuple((11, part.encode()) for part in parts)


# -- telemetry


@pytest.mark.parametrize(
    ("parts", "content_format", "kind"),
    [
        (("vitals",), 112, Kind.VITALS),
        (("v",), 110, Kind.VITALS),
        (("alarm",), 112, Kind.ALARM),
        (("a",), 110, Kind.ALARM),
        (("sealed",), 16, Kind.SEALED),
        (("s",), 96, Kind.SEALED),
        (("sealed", "alarm"), 16, Kind.SEALED_ALARM),
        (("s", "a"), 96, Kind.SEALED_ALARM),
    ],
)
@pytest.mark.parametrize("code", [Code.POST, Code.PUT])
async def test_telemetry_is_stored_before_it_is_acknowledged(
    bench: Bench, parts: tuple[str, ...], content_format: int, kind: Kind, code: Code
) -> None:
    bench.intake.gate.clear()
    options = (*path(*parts), (12, bytes([content_format])))
    mid = bench.sends((3, b"gw"), (7, b"\x16\x35"), *options, code=code, payload=b"pack")
    assert await bench.hears() == []
    assert bench.intake.admitted == [(BED, kind, content_format, b"pack")]
    bench.intake.gate.set()
    (answer,) = await bench.hears()
    assert answer == Message(Type.ACK, Code.CHANGED, mid, mid.to_bytes(2, "big"))


async def test_both_lanes_answer_alike(bench: Bench) -> None:
    """What the fast lane claims has the same meaning here."""
    raw = encode(Message(Type.CON, Code.POST, 9, b"t", VITALS, b"pack"))
    telemetry = claim(raw)
    assert telemetry is not None
    bench.lane.receive(BED, raw, 0.0)
    assert await bench.hears() == [Message(Type.ACK, Code.CHANGED, 9, b"t")]
    assert bench.intake.admitted == [
        (BED, telemetry.kind, telemetry.content_format, telemetry.payload)
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadRequestError("record 0 (hr): no value"), (128, (), b"record 0 (hr): no value")),
        (ForbiddenError("not your name"), (131, (), b"not your name")),
        (TooLargeError("long", 8192), (141, ((Option.SIZE1, b"\x20\x00"),), b"long")),
        (TooManyRequestsError("fast", 1.5), (157, ((Option.MAX_AGE, b"\x02"),), b"fast")),
        (OutboxFull("full", 60.0), (163, ((Option.MAX_AGE, b"\x3c"),), b"full")),
    ],
)
async def test_a_refusal_of_the_intake_is_the_answer(
    bench: Bench, error: PeerError, expected: tuple[int, object, bytes]
) -> None:
    bench.intake.error = error
    found = await bench.asks(*VITALS, code=Code.POST, payload=b"pack")
    assert (found.code, found.options, found.payload) == expected


async def test_a_record_that_cannot_be_sealed_is_our_fault(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.intake.error = SealError("nobody may read it")
    found = await bench.asks(*VITALS, code=Code.POST, payload=b"pack")
    assert (found.code, found.payload) == (Code.INTERNAL_SERVER_ERROR, b"")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "a record cannot be sealed: nobody may read it"
    ]
    caplog.clear()


@pytest.mark.parametrize("content_format", [None, b"", b"\x10", b"\x3c", b"\xff\x00"])
async def test_another_format_is_not_taken(bench: Bench, content_format: bytes | None) -> None:
    options = () if content_format is None else ((12, content_format),)
    found = await bench.asks(*path("vitals"), *options, code=Code.POST, payload=b"pack")
    assert found.code == Code.UNSUPPORTED_CONTENT_FORMAT
    assert bench.intake.admitted == []


async def test_a_format_is_named_that_would_be_taken(bench: Bench) -> None:
    found = await bench.asks(*path("sealed"), code=Code.POST, payload=b"pack")
    assert found.payload == b"use Content-Format 16 or 96 here"


async def test_an_empty_payload_is_a_bad_request(bench: Bench) -> None:
    assert (await bench.asks(*VITALS, code=Code.POST)).code == Code.BAD_REQUEST


@pytest.mark.parametrize("code", [Code.GET, Code.DELETE, Code.FETCH, Code.IPATCH, 31])
async def test_other_methods_are_not_allowed(bench: Bench, code: int) -> None:
    assert (await bench.asks(*path("vitals"), code=code)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    "options",
    [(), path(""), path("nothing"), path("vitals", ""), path("v", "a"), path(".well-known")],
)
async def test_other_paths_are_not_found(
    bench: Bench, options: tuple[tuple[int, bytes], ...]
) -> None:
    assert (await bench.asks(*options, code=Code.POST, payload=b"x")).code == Code.NOT_FOUND


@pytest.mark.parametrize("option", [(35, b"http://example.com/"), (39, b"http")])
async def test_nothing_is_forwarded(bench: Bench, option: tuple[int, bytes]) -> None:
    found = await bench.asks(*path("time"), option)
    assert found.code == Code.PROXYING_NOT_SUPPORTED


async def test_a_critical_option_without_meaning_is_named(bench: Bench) -> None:
    found = await bench.asks((1, b""), *VITALS, code=Code.PUT, payload=b"pack")
    assert (found.code, found.payload) == (Code.BAD_OPTION, b"cannot act on option If-Match (1)")
    assert bench.intake.admitted == []


# -- bodies in blocks


async def test_a_body_in_blocks_is_admitted_once_and_whole(bench: Bench) -> None:
    body = bytes(range(256)) * 8
    tag, size1 = (Option.REQUEST_TAG, b"\x01"), (Option.SIZE1, b"\x08\x00")
    for number in range(2):
        value = Block(number, number == 0, 6).encode()
        found = await bench.asks(
            *VITALS, (27, value), size1, tag, code=Code.PUT, payload=body[number * 1024 :][:1024]
        )
        assert found.code == (Code.CHANGED if number else Code.CONTINUE)
        assert found.options == ((27, value),)
    assert bench.intake.admitted == [(BED, Kind.VITALS, 112, body)]


async def test_the_refusal_of_a_body_echoes_its_block(bench: Bench) -> None:
    bench.intake.error = BadRequestError("no")
    found = await bench.asks(*VITALS, (27, b"\x06"), code=Code.PUT, payload=b"x")
    assert (found.code, found.options) == (Code.BAD_REQUEST, ((27, b"\x06"),))
    found = await bench.asks(*path("nothing"), (27, b"\x06"), code=Code.PUT, payload=b"x")
    assert (found.code, found.options) == (Code.NOT_FOUND, ((27, b"\x06"),))


async def test_a_gap_is_incomplete(bench: Bench) -> None:
    found = await bench.asks(*VITALS, (27, b"\x16"), code=Code.PUT, payload=b"x")
    assert found.code == Code.REQUEST_ENTITY_INCOMPLETE


async def test_what_is_stored_is_acknowledged_whatever_block_is_asked_for(bench: Bench) -> None:
    wanted = (Option.BLOCK2, Block(1, False, 2).encode())
    found = await bench.asks(*VITALS, wanted, code=Code.POST, payload=b"x")
    assert (found.code, found.options) == (Code.CHANGED, ())


# -- types, repetitions, tokens


async def test_a_non_confirmable_post_is_answered_non_confirmable(bench: Bench) -> None:
    bench.sends(*VITALS, kind=Type.NON, code=Code.POST, payload=b"pack", token=b"\x09")
    (found,) = await bench.hears()
    assert (found.type, found.code, found.token) == (Type.NON, Code.CHANGED, b"\x09")


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_posts_that_share_a_token_are_all_stored_and_answered(
    bench: Bench, kind: Type
) -> None:
    """A node that reads no answers has no reason to vary its token."""
    for n in range(5):
        bench.sends(*VITALS, kind=kind, code=Code.POST, payload=bytes([n]), token=b"")
    found = await bench.hears()
    assert [message.code for message in found] == [Code.CHANGED] * 5
    assert [message.token for message in found] == [b""] * 5
    assert [payload for *_, payload in bench.intake.admitted] == [bytes([n]) for n in range(5)]


async def test_a_repetition_gets_the_same_bytes_and_is_stored_once(bench: Bench) -> None:
    first = await bench.asks(*VITALS, code=Code.POST, payload=b"pack", mid=77)
    bench.clock.now += 100
    assert await bench.asks(*VITALS, code=Code.POST, payload=b"pack", mid=77) == first
    assert len(bench.intake.admitted) == 1


async def test_a_new_measurement_under_an_old_id_is_stored(bench: Bench) -> None:
    await bench.asks(*VITALS, code=Code.POST, payload=b"one", mid=77)
    await bench.asks(*VITALS, code=Code.POST, payload=b"two", mid=77)
    assert [payload for *_, payload in bench.intake.admitted] == [b"one", b"two"]


async def test_two_measurements_under_one_id_at_once_are_both_stored(bench: Bench) -> None:
    bench.intake.gate.clear()
    for payload in (b"one", b"two"):
        bench.sends(*VITALS, code=Code.POST, payload=payload, mid=77, token=b"")
    await bench.hears()
    bench.intake.gate.set()
    assert await bench.hears() == [Message(Type.ACK, Code.CHANGED, 77)] * 2
    assert [payload for *_, payload in bench.intake.admitted] == [b"one", b"two"]


async def test_a_new_association_begins_anew(bench: Bench) -> None:
    await bench.asks(*VITALS, code=Code.POST, payload=b"pack", mid=77)
    await bench.asks(
        *VITALS, code=Code.POST, payload=b"pack", mid=77, endpoint=Endpoint(9, "bed-1")
    )
    assert len(bench.intake.admitted) == 2


async def test_a_slow_commit_is_acknowledged_empty_and_answered_separately(bench: Bench) -> None:
    bench.intake.gate.clear()
    mid = bench.sends(*VITALS, code=Code.POST, payload=b"pack", token=b"\x05")
    await bench.passes(0.6)
    assert await bench.hears() == [Message(Type.ACK, Code.EMPTY, mid)]
    bench.sends(*VITALS, code=Code.POST, payload=b"pack", token=b"\x05", mid=mid)
    assert await bench.hears() == [Message(Type.ACK, Code.EMPTY, mid)]
    bench.intake.gate.set()
    (separate,) = await bench.hears()
    assert (separate.type, separate.code, separate.token) == (Type.CON, Code.CHANGED, b"\x05")
    await bench.passes(3.1)
    assert await bench.hears() == [separate]
    bench.lane.receive(BED, encode(Message(Type.ACK, 0, separate.mid)), bench.clock.now)
    await bench.passes(30)
    assert await bench.hears() == []
    assert len(bench.intake.admitted) == 1


async def test_a_peer_has_only_so_many_requests_in_hand(bench: Bench) -> None:
    """Unacknowledged separate answers count, or their queue would have no bound."""
    bench.intake.gate.clear()
    for _ in range(16):
        bench.sends(*VITALS, code=Code.POST, payload=b"pack")
    assert await bench.hears() == []
    assert (await bench.asks(*path("time"))).code == Code.TOO_MANY_REQUESTS
    await bench.passes(0.6)
    await bench.hears()
    bench.intake.gate.set()
    assert len(await bench.hears()) == 1
    assert bench.lane.in_hand(BED) == 15
    assert (await bench.asks(*path("time"))).code == Code.CONTENT
    for n in range(2):
        bench.sends(*path("time"), endpoint=OTHER, token=bytes([n]))
    assert len(await bench.hears()) == 2


async def test_a_read_may_not_take_the_token_of_one_that_waits(bench: Bench) -> None:
    bench.sends(*path("time"), token=b"\x01")
    mid = bench.sends(*path(".well-known", "core"), token=b"\x01")
    assert len(await bench.hears()) == 1
    bench.sends(*path(".well-known", "core"), token=b"\x01", mid=mid)
    (found,) = await bench.hears()
    assert found.mid == mid


async def test_a_ping_is_reset(bench: Bench) -> None:
    bench.lane.receive(BED, b"\x40\x00\x12\x34", 0.0)
    assert bench.sent == [(BED, b"\x70\x00\x12\x34")]


async def test_messages_that_belong_to_nothing_are_ignored(bench: Bench) -> None:
    for raw in (b"\x60\x00\x12\x34", b"\x70\x00\x12\x34", b"\x60\x45\x12\x34", b"\x50\x45\0\0"):
        bench.lane.receive(BED, raw, 0.0)
    assert await bench.hears() == []


async def test_an_answer_to_no_question_is_reset(bench: Bench) -> None:
    bench.lane.receive(BED, b"\x40\x45\x12\x34", 0.0)
    assert await bench.hears() == [Message(Type.RST, 0, 0x1234)]


@pytest.mark.parametrize("raw", [b"\x40\x01\0\1\xb1\xff", b"\x49\x01\0\1" + b"\0" * 9])
async def test_what_aiocoap_would_choke_on_or_take_is_reset(bench: Bench, raw: bytes) -> None:
    bench.lane.receive(BED, raw, 0.0)
    assert await bench.hears() == [Message(Type.RST, 0, 1)]
    assert bench.lane.counts == {"message_format": 1}


# -- No-Response


@pytest.mark.parametrize(
    ("wish", "parts", "answered"),
    [
        (b"\x02", ("vitals",), False),
        (b"\x1a", ("vitals",), False),
        (b"\x18", ("vitals",), True),
        (b"", ("vitals",), True),
        (b"\x08", ("nothing",), False),
        (b"\x02", ("nothing",), True),
    ],
)
async def test_no_response_is_honoured(
    bench: Bench, wish: bytes, parts: tuple[str, ...], answered: bool
) -> None:
    options = (*path(*parts), (12, b"\x70"), (Option.NO_RESPONSE, wish))
    found = await bench.asks(*options, code=Code.POST, payload=b"pack")
    assert (found.code != Code.EMPTY) is answered
    bench.sends(*options, code=Code.POST, payload=b"pack", kind=Type.NON)
    assert (await bench.hears() != []) is answered


# -- /time


async def test_the_time_is_cbor_unless_text_is_asked_for(bench: Bench) -> None:
    found = await bench.asks(*path("time"))
    assert found.options == ((12, b"\x3c"), (14, b"\x01"))
    assert cbor2.loads(found.payload) == {1: 1_800_000_000, 2: True}
    assert await bench.asks(*path("time"), (17, b"\x3c"), token=None) != found
    found = await bench.asks(*path("time"), (17, b""))
    assert found.options == ((12, b""), (14, b"\x01"))
    assert found.payload == b"2027-01-15T08:00:00Z"


async def test_an_unsynchronised_clock_says_so(bench: Bench) -> None:
    bench.clock.is_synchronised = False
    assert cbor2.loads((await bench.asks(*path("time"))).payload)[2] is False
    found = await bench.asks(*path("time"), (17, b""))
    assert found.payload == b"2027-01-15T08:00:00Z not synchronised"


@pytest.mark.parametrize("parts", [("time",), (".well-known", "core")])
@pytest.mark.parametrize("accept", [b"\x32", b"\xff\xff"])
async def test_other_formats_cannot_be_had(
    bench: Bench, parts: tuple[str, ...], accept: bytes
) -> None:
    assert (await bench.asks(*path(*parts), (17, accept))).code == Code.NOT_ACCEPTABLE


async def test_a_small_answer_is_whole_for_a_client_that_always_asks_for_blocks(
    bench: Bench,
) -> None:
    found = await bench.asks(*path("time"), (Option.BLOCK2, b"\x02"))
    assert found.value(Option.BLOCK2) is None
    assert found.code == Code.CONTENT


# -- /.well-known/core

CORE = path(".well-known", "core")

LINKS = (
    '</vitals>;rt="ward.vitals";if="ward.sink";ct="112 110",'
    '</v>;rt="ward.vitals";if="ward.sink";ct="112 110",'
    '</alarm>;rt="ward.alarm";if="ward.sink";ct="112 110",'
    '</a>;rt="ward.alarm";if="ward.sink";ct="112 110",'
    '</sealed>;rt="ward.sealed";if="ward.sink";ct="16 96",'
    '</s>;rt="ward.sealed";if="ward.sink";ct="16 96",'
    '</sealed/alarm>;rt="ward.sealed.alarm";if="ward.sink";ct="16 96",'
    '</s/a>;rt="ward.sealed.alarm";if="ward.sink";ct="16 96",'
    '</time>;rt="ward.time";if="ward.read";ct="60 0",'
    '</ticker>;rt="test.ticker";if="test";ct="0"'
)


async def test_everything_that_is_served_can_be_discovered(bench: Bench) -> None:
    found = await bench.asks(*CORE)
    assert (found.code, found.options) == (Code.CONTENT, ((12, b"\x28"),))
    assert found.payload.decode() == LINKS


@pytest.mark.parametrize(
    ("queries", "targets"),
    [
        (["rt=ward.time"], ["time"]),
        (["rt=ward.sealed"], ["sealed", "s"]),
        (["rt=ward.sealed*"], ["sealed", "s", "sealed/alarm", "s/a"]),
        (["if=ward.read"], ["time"]),
        (["ct=60"], ["time"]),
        (["ct=1*"], ["vitals", "v", "alarm", "a", "sealed", "s", "sealed/alarm", "s/a"]),
        (["ct=112 110"], []),
        (["href=/s"], ["s"]),
        (["href=/v*"], ["vitals", "v"]),
        (["rt=ward.*", "href=/a*"], ["alarm", "a"]),
        (["rt=*"], [line.split(">")[0][2:] for line in LINKS.split(",")]),
        (["title=x"], []),
        (["rt=ward"], []),
        (["obs"], [line.split(">")[0][2:] for line in LINKS.split(",")]),
    ],
)
async def test_discovery_is_filtered(bench: Bench, queries: list[str], targets: list[str]) -> None:
    found = await bench.asks(*CORE, *((15, one.encode()) for one in queries))
    assert found.code == Code.CONTENT
    lines = found.payload.decode().split(",") if found.payload else []
    assert [line.split(">")[0][2:] for line in lines] == targets


@pytest.mark.parametrize("exponent", [0, 2, 4])
async def test_discovery_comes_in_the_blocks_asked_for(bench: Bench, exponent: int) -> None:
    body, etags = b"", set()
    for number in itertools.count():
        value = Block(number, False, exponent).encode()
        found = await bench.asks(*CORE, (Option.BLOCK2, value))
        body += found.payload
        etags.add(found.value(Option.ETAG))
        more = len(body) < len(LINKS)
        assert found.value(Option.BLOCK2) == Block(number, more, exponent).encode()
        assert found.uint(Option.SIZE2) == (None if number else len(LINKS))
        if not more:
            break
        bench.clock.now += 1
    assert body.decode() == LINKS
    assert len(etags) == 1
    assert etags != {None}


async def test_there_is_no_block_behind_the_last(bench: Bench) -> None:
    found = await bench.asks(*CORE, (Option.BLOCK2, Block(99, False, 2).encode()))
    assert found.code == Code.BAD_REQUEST


# -- observation, the end of an association, the end of the lane


async def test_what_cannot_be_observed_is_a_plain_answer(bench: Bench) -> None:
    for _ in range(5):
        found = await bench.asks(*path("time"), (Option.OBSERVE, b""))
        assert found.value(Option.OBSERVE) is None
    assert bench.lane.in_hand(BED) == 0


TICKER = path("ticker")
REGISTER, CANCEL = (Option.OBSERVE, b""), (Option.OBSERVE, b"\x01")


async def observes(bench: Bench, *, token: bytes, endpoint: Endpoint = BED) -> bool:
    """Whether a registration is accepted."""
    bench.sends(REGISTER, *TICKER, token=token, endpoint=endpoint)
    (found,) = await bench.hears()
    assert found.code == Code.CONTENT
    return found.value(Option.OBSERVE) is not None


async def notified(bench: Bench, text: str) -> dict[bytes, Message]:
    """Notifications by token, each acknowledged."""
    bench.ticker.becomes(text)
    found: dict[bytes, Message] = {}
    while heard := await bench.hears():
        for message in heard:
            assert message.payload.decode() == text
            found[message.token] = message
            raw = encode(Message(Type.ACK, 0, message.mid))
            bench.lane.receive(BED, raw, bench.clock.now)
            bench.lane.receive(OTHER, raw, bench.clock.now)
    return found


async def test_changes_are_pushed_until_the_observer_cancels(bench: Bench) -> None:
    assert await observes(bench, token=b"1")
    (first,) = (await notified(bench, "a")).values()
    (second,) = (await notified(bench, "b")).values()
    assert (first.uint(Option.OBSERVE) or 0) < (second.uint(Option.OBSERVE) or 0)
    bench.sends(CANCEL, *TICKER, token=b"1")
    (found,) = await bench.hears()
    assert found.value(Option.OBSERVE) is None
    assert await notified(bench, "c") == {}


async def test_a_peer_has_only_so_many_observations(bench: Bench) -> None:
    assert await observes(bench, token=b"1")
    assert await observes(bench, token=b"2")
    assert not await observes(bench, token=b"3")
    assert await observes(bench, token=b"1", endpoint=OTHER)
    assert await observes(bench, token=b"2")
    assert set(await notified(bench, "a")) == {b"1", b"2"}
    bench.sends(CANCEL, *TICKER, token=b"1")
    await bench.hears()
    assert await observes(bench, token=b"3")


async def test_a_reset_ends_an_observation(bench: Bench) -> None:
    await observes(bench, token=b"1")
    bench.ticker.becomes("a")
    (found,) = await bench.hears()
    bench.lane.receive(BED, encode(Message(Type.RST, 0, found.mid)), bench.clock.now)
    assert await notified(bench, "b") == {}
    for token in (b"2", b"3"):
        assert await observes(bench, token=token)


async def test_an_observer_that_answers_nothing_is_forgotten(bench: Bench) -> None:
    await observes(bench, token=b"1")
    bench.ticker.becomes("a")
    for _ in range(5):
        assert len(await bench.hears()) == 1
        await bench.passes(48)
    assert await notified(bench, "b") == {}


async def test_a_large_notification_is_the_first_block(bench: Bench) -> None:
    await observes(bench, token=b"1")
    bench.ticker.becomes("x" * 3000)
    (found,) = await bench.hears()
    assert found.value(Option.BLOCK2) == Block(0, True, 6).encode()
    assert len(found.payload) == 1024


async def test_the_end_of_an_association_ends_its_observations(bench: Bench) -> None:
    await observes(bench, token=b"1")
    await observes(bench, token=b"2")
    bench.lane.closed(BED)
    assert await notified(bench, "a") == {}
    assert await observes(bench, token=b"3")
    assert await observes(bench, token=b"4")


async def test_the_end_of_an_association_ends_its_requests(bench: Bench) -> None:
    bench.intake.gate.clear()
    bench.sends(*VITALS, code=Code.POST, payload=b"pack")
    bench.sends(*VITALS, code=Code.POST, payload=b"pack", endpoint=OTHER)
    await bench.hears()
    bench.lane.closed(BED)
    await bench.hears()
    assert bench.intake.cancelled == 1
    assert bench.lane.in_hand(BED) == 0
    bench.intake.gate.set()
    await bench.hears()
    assert bench.lane.in_hand(OTHER) == 0


async def test_an_association_may_end_before_its_request_is_looked_at(bench: Bench) -> None:
    bench.sends(*VITALS, code=Code.POST, payload=b"pack")
    bench.lane.closed(BED)
    assert await bench.hears() == []
    assert bench.intake.admitted == []
    gc.collect()  # a coroutine that was never awaited would complain here


async def test_the_end_of_an_association_ends_its_bodies(bench: Bench) -> None:
    value = Block(0, True, 0).encode()
    await bench.asks(*VITALS, (27, value), code=Code.PUT, payload=b"x" * 16)
    bench.lane.closed(BED)
    value = Block(1, False, 0).encode()
    found = await bench.asks(*VITALS, (27, value), code=Code.PUT, payload=b"x")
    assert found.code == Code.REQUEST_ENTITY_INCOMPLETE


async def test_sweeping_forgets_old_repetitions(bench: Bench) -> None:
    await bench.asks(*VITALS, code=Code.POST, payload=b"pack", mid=77)
    bench.clock.now += 247
    bench.lane.sweep(bench.clock.now)
    await bench.asks(*VITALS, code=Code.POST, payload=b"pack", mid=77)
    assert len(bench.intake.admitted) == 2


async def test_before_its_start_and_after_its_stop_a_lane_is_silent() -> None:
    bench = Bench()
    bench.sends(*path("time"))
    await bench.lane.start()
    bench.intake.gate.clear()
    bench.sends(*VITALS, code=Code.POST, payload=b"pack")
    await bench.hears()
    await bench.lane.stop()
    assert bench.intake.cancelled == 1
    bench.sends(*path("time"))
    bench.lane.closed(BED)
    assert await bench.hears() == []
    await bench.lane.stop()
    assert 0 <= bench.lane.next_message_id() <= 0xFFFF


async def test_message_ids_of_ours_do_not_repeat(bench: Bench) -> None:
    assert len({bench.lane.next_message_id() for _ in range(100)}) == 100


async def test_a_bug_costs_its_datagram_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    failing: list[Callable[[], None]] = []

    def send(endpoint: Endpoint, datagram: bytes) -> None:
        failing.append(lambda: None)
        raise RuntimeError("planted")

    lane = AiocoapLane(send, RecordingIntake(), FakeClock())
    await lane.start()
    lane.receive(BED, b"\x40\x00\x12\x34", 0.0)
    assert lane.counts["bugs"] == 1
    assert "planted" in caplog.text
    assert failing
    await lane.stop()
