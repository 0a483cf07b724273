"""What reaches the implementation behind, what is answered before it, what is dropped."""

from __future__ import annotations

import pytest

from gateway.coap.message import Message, decode_untrusted, encode, reset
from gateway.coap.numbers import Code, Option, Type
from gateway.coap.options import Block
from gateway.endpoint import Endpoint
from gateway.ingress.guard import Answer, Config, Dispatch, Drop, Guard, Verdict

BED = Endpoint(1, "bed-1")
OURS = 0x7777


class Implementation:
    """What the guard asks about; set by a test."""

    def __init__(self) -> None:
        self.waiting = 0
        self.tokens: set[bytes] = set()

    def next_message_id(self) -> int:
        return OURS

    def in_hand(self, endpoint: Endpoint) -> int:
        return self.waiting

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        return token in self.tokens


@pytest.fixture
def behind() -> Implementation:
    return Implementation()


@pytest.fixture
def guard(behind: Implementation) -> Guard:
    return Guard(Config(), behind)


def request(
    *options: tuple[int, bytes],
    kind: Type = Type.CON,
    code: int = Code.GET,
    mid: int = 7,
    token: bytes = b"\x01",
    payload: bytes = b"",
) -> bytes:
    return encode(Message(kind, code, mid, token, options, payload))


def answer(verdict: Verdict) -> Message:
    assert isinstance(verdict, Answer)
    return decode_untrusted(verdict.datagram)


def test_a_good_request_is_dispatched_as_it_is(guard: Guard) -> None:
    raw = request((3, b"gw"), (7, b"\x16\x34"), (11, b"time"), (15, b"a=b"), (17, b""))
    assert guard.judge(BED, raw, 0.0) == Dispatch(decode_untrusted(raw))


def test_options_that_mean_nothing_here_are_left_out(guard: Guard) -> None:
    raw = request((11, b"time"), (12, b"abc"), (258, b"\x02"), (258, b"\x08"), (65000, b"x"))
    verdict = guard.judge(BED, raw, 0.0)
    assert isinstance(verdict, Dispatch)
    assert verdict.message.options == ((11, b"time"), (258, b"\x02"))


@pytest.mark.parametrize("raw", [b"\x49\x01\x12\x34" + b"\0" * 9, b"\x40\x01\x12\x34\xff"])
def test_a_malformed_confirmable_message_is_reset(guard: Guard, raw: bytes) -> None:
    assert guard.judge(BED, raw, 0.0) == Answer(reset(0x1234), "message_format")


@pytest.mark.parametrize(
    "raw", [b"", b"\x40", b"\x59\x01\x12\x34" + b"\0" * 9, b"\x80\x01\x12\x34", b"\x60\x01\0\0"]
)
def test_other_malformed_datagrams_are_dropped(guard: Guard, raw: bytes) -> None:
    assert guard.judge(BED, raw, 0.0) == Drop("message_format")


def test_a_ping_is_reset(guard: Guard) -> None:
    assert guard.judge(BED, b"\x40\x00\x12\x34", 0.0) == Answer(reset(0x1234), "ping")


def test_acknowledgements_and_resets_pass(guard: Guard) -> None:
    for raw in (b"\x60\x00\x12\x34", b"\x70\x00\x12\x34"):
        assert guard.judge(BED, raw, 0.0) == Dispatch(decode_untrusted(raw))


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ((Option.IF_MATCH, b""), "If-Match (1)"),
        ((Option.IF_NONE_MATCH, b""), "If-None-Match (5)"),
        ((Option.OSCORE, b""), "OSCORE (9)"),
        ((13, b"\x01"), "13"),
        ((65001, b""), "65001"),
        ((Option.URI_PORT, b"abc"), "Uri-Port (7)"),
        ((Option.BLOCK1, b"abcd"), "Block1 (27)"),
    ],
)
def test_a_critical_option_that_is_not_understood_is_named(
    guard: Guard, option: tuple[int, bytes], name: str
) -> None:
    found = answer(guard.judge(BED, request(option), 0.0))
    assert (found.type, found.code, found.mid, found.token) == (2, Code.BAD_OPTION, 7, b"\x01")
    assert found.payload.decode() == f"cannot act on option {name}"


def test_a_repeated_critical_option_is_not_understood(guard: Guard) -> None:
    raw = request((Option.ACCEPT, b""), (Option.ACCEPT, b"\x3c"))
    assert answer(guard.judge(BED, raw, 0.0)).code == Code.BAD_OPTION


def test_a_non_confirmable_message_is_rejected_in_silence(guard: Guard) -> None:
    raw = request((Option.IF_MATCH, b""), kind=Type.NON)
    assert guard.judge(BED, raw, 0.0) == Drop("bad_option")


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ((Option.CONTENT_FORMAT, b"\xff\x00"), Code.UNSUPPORTED_CONTENT_FORMAT),
        ((Option.ACCEPT, b"\xff\x00"), Code.NOT_ACCEPTABLE),
        ((Option.BLOCK2, b"\x07"), Code.BAD_REQUEST),
        ((Option.BLOCK1, b"\x07"), Code.BAD_REQUEST),
    ],
)
def test_values_that_nothing_here_takes_are_refused(
    guard: Guard, option: tuple[int, bytes], code: Code
) -> None:
    assert answer(guard.judge(BED, request((11, b"v"), option), 0.0)).code == code


def test_a_datagram_that_is_too_long_is_refused_with_the_limit(guard: Guard) -> None:
    raw = request((11, b"v"), code=Code.POST, payload=b"x" * 1300)
    assert answer(guard.judge(BED, raw, 0.0)) == Message(
        Type.ACK, 141, 7, b"\x01", ((Option.BLOCK1, b"\x06"), (Option.SIZE1, b"\x20\x00"))
    )


@pytest.mark.parametrize(
    "head", [b"\x50\x02\0\x07", b"\x49\x02\0\x07", b"\x40\x45\0\x07", b"\x80\x02\0\x07"]
)
def test_other_long_datagrams_are_dropped(guard: Guard, head: bytes) -> None:
    assert guard.judge(BED, head + b"\0" * 1300, 0.0) == Drop("too_large")


def test_over_the_rate_a_device_is_told_so_and_then_ignored(guard: Guard) -> None:
    for mid in range(100):
        assert isinstance(guard.judge(BED, request((11, b"v"), mid=mid), 0.0), Dispatch)
    for mid in (100, 101):
        found = answer(guard.judge(BED, request((11, b"v"), mid=mid), 0.0))
        assert found.code == Code.TOO_MANY_REQUESTS
        assert found.uint(Option.MAX_AGE) == 1
    assert guard.judge(BED, request((11, b"v"), mid=102), 0.0) == Drop("rate")
    assert isinstance(guard.judge(Endpoint(2, "bed-2"), request(), 0.0), Dispatch)
    assert isinstance(guard.judge(BED, request((11, b"v"), mid=100), 1.0), Dispatch)


@pytest.mark.parametrize(
    "raw", [b"\x40\x00\0\1", b"\x49\1\0\1", b"", b"\x60\0\0\1", b"\x40" * 1300]
)
def test_over_the_rate_only_requests_are_told(guard: Guard, raw: bytes) -> None:
    for mid in range(100):
        guard.judge(BED, request((11, b"v"), mid=mid), 0.0)
    assert guard.judge(BED, raw, 0.0) == Drop("rate")


def test_a_repetition_is_dropped_until_there_is_an_answer_then_answered_again(
    guard: Guard,
) -> None:
    raw = request((11, b"time"))
    assert isinstance(guard.judge(BED, raw, 0.0), Dispatch)
    assert guard.judge(BED, raw, 1.0) == Drop("in_progress")
    guard.answered(BED, 7, b"the answer", 2.0)
    assert guard.judge(BED, raw, 3.0) == Answer(b"the answer", "replayed")
    assert isinstance(guard.judge(Endpoint(2, "bed-1"), raw, 3.0), Dispatch)


def test_the_same_id_with_other_bytes_is_dispatched(guard: Guard) -> None:
    guard.judge(BED, request((11, b"v"), code=Code.POST, payload=b"1"), 0.0)
    guard.answered(BED, 7, b"the answer", 0.0)
    verdict = guard.judge(BED, request((11, b"v"), code=Code.POST, payload=b"2"), 1.0)
    assert isinstance(verdict, Dispatch)


def test_a_repeated_non_confirmable_message_is_dropped(guard: Guard) -> None:
    raw = request((11, b"v"), kind=Type.NON, code=Code.POST, payload=b"1")
    assert isinstance(guard.judge(BED, raw, 0.0), Dispatch)
    assert guard.judge(BED, raw, 1.0) == Drop("replayed")


def test_a_peer_has_only_so_many_requests_in_hand(guard: Guard, behind: Implementation) -> None:
    behind.waiting = Config().in_hand
    found = answer(guard.judge(BED, request((11, b"v")), 0.0))
    assert (found.code, found.uint(Option.MAX_AGE)) == (Code.TOO_MANY_REQUESTS, 2)
    behind.waiting -= 1
    assert isinstance(guard.judge(BED, request((11, b"v")), 0.0), Dispatch)


def test_a_read_with_the_token_of_one_that_waits_comes_again_later(
    guard: Guard, behind: Implementation
) -> None:
    behind.tokens = {b"\x01"}
    assert guard.judge(BED, request((11, b"v")), 0.0) == Drop("token_in_use")
    behind.tokens = set()
    assert isinstance(guard.judge(BED, request((11, b"v")), 2.0), Dispatch)


def test_a_write_may_have_any_token(guard: Guard, behind: Implementation) -> None:
    behind.tokens = {b"\x01"}
    raw = request((11, b"v"), code=Code.POST, payload=b"1")
    assert isinstance(guard.judge(BED, raw, 0.0), Dispatch)


def block(number: int, payload: bytes, *, more: bool, **extra: int) -> bytes:
    value = Block(number, more, 0).encode()
    kind = Type(extra.get("kind", Type.CON))
    options = ((11, b"v"), (12, b"\x70"), (27, value))
    return request(*options, code=Code.POST, payload=payload, mid=extra["mid"], kind=kind)


def test_a_body_in_blocks_is_dispatched_once_and_whole(guard: Guard) -> None:
    first = block(0, b"a" * 16, more=True, mid=1)
    going_on = Message(Type.ACK, Code.CONTINUE, 1, b"\x01", ((27, b"\x08"),))
    assert answer(guard.judge(BED, first, 0.0)) == going_on
    assert answer(guard.judge(BED, first, 1.0)) == going_on
    verdict = guard.judge(BED, block(1, b"b", more=False, mid=2), 2.0)
    assert isinstance(verdict, Dispatch)
    assert verdict.message.payload == b"a" * 16 + b"b"
    assert verdict.message.value(Option.BLOCK1) == b"\x10"


def test_a_gap_is_answered_with_its_block(guard: Guard) -> None:
    found = answer(guard.judge(BED, block(3, b"b", more=False, mid=2), 0.0))
    assert found.code == Code.REQUEST_ENTITY_INCOMPLETE
    assert found.value(Option.BLOCK1) == b"\x30"


def test_a_body_that_grows_too_long_is_refused_with_the_limit(guard: Guard) -> None:
    found = answer(guard.judge(BED, block(512, b"b" * 16, more=True, mid=2), 0.0))
    assert (found.code, found.uint(Option.SIZE1)) == (Code.REQUEST_ENTITY_TOO_LARGE, 8192)


def test_too_many_bodies_at_once_are_told_when_to_come_back(behind: Implementation) -> None:
    guard = Guard(Config(assemblies=1), behind)
    guard.judge(BED, block(0, b"a" * 16, more=True, mid=1), 0.0)
    other = Endpoint(2, "bed-2")
    found = answer(guard.judge(other, block(0, b"a" * 16, more=True, mid=1), 0.0))
    assert (found.code, found.uint(Option.MAX_AGE)) == (Code.SERVICE_UNAVAILABLE, 93)
    guard.closed(BED)
    found = answer(guard.judge(other, block(0, b"a" * 16, more=True, mid=2), 0.0))
    assert found.code == Code.CONTINUE


def test_non_confirmable_blocks_are_answered_under_an_id_of_ours(guard: Guard) -> None:
    raw = block(0, b"a" * 16, more=True, mid=1, kind=Type.NON)
    found = answer(guard.judge(BED, raw, 0.0))
    assert (found.type, found.code, found.mid) == (Type.NON, Code.CONTINUE, OURS)


@pytest.mark.parametrize(
    ("wish", "kind", "expected"),
    [
        (b"\x08", Type.CON, Answer(b"\x60\x00\x00\x07", "content_format")),
        (b"\x08", Type.NON, Drop("content_format")),
    ],
)
def test_a_refusal_is_not_sent_to_who_does_not_want_it(
    guard: Guard, wish: bytes, kind: Type, expected: Verdict
) -> None:
    raw = request((12, b"\xff\x00"), (Option.NO_RESPONSE, wish), kind=kind)
    assert guard.judge(BED, raw, 0.0) == expected


def test_a_response_with_an_unknown_critical_option_is_rejected(guard: Guard) -> None:
    raw = request((65001, b""), code=Code.CONTENT)
    assert guard.judge(BED, raw, 0.0) == Answer(reset(7), "bad_option")
    raw = request((65001, b""), code=Code.CONTENT, kind=Type.NON)
    assert guard.judge(BED, raw, 0.0) == Drop("bad_option")


def test_a_response_passes_without_formats_that_nobody_knows(guard: Guard) -> None:
    raw = request((4, b"e"), (12, b"\xff\x00"), code=Code.CONTENT)
    verdict = guard.judge(BED, raw, 0.0)
    assert isinstance(verdict, Dispatch)
    assert verdict.message.options == ((4, b"e"),)


def test_sweeping_forgets_repetitions_and_bodies(guard: Guard) -> None:
    guard.judge(BED, block(0, b"a" * 16, more=True, mid=1), 0.0)
    guard.sweep(100.0)
    found = answer(guard.judge(BED, block(1, b"b", more=False, mid=2), 100.0))
    assert found.code == Code.REQUEST_ENTITY_INCOMPLETE
