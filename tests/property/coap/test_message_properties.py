"""The codec, the fast lane and the guard, on arbitrary and on nearly right bytes."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.coap.blockwise import Assemblies
from gateway.coap.fastlane import FORMATS, PATHS, claim
from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import OPTIONS, Option, Type, is_request, is_response
from gateway.coap.options import MAX_OPTIONS, decode_block_untrusted
from gateway.endpoint import Endpoint
from gateway.errors import MessageFormatError, PeerError
from gateway.ingress.guard import Answer, Config, Dispatch, Drop, Guard

STRINGS = {3, 8, 11, 15, 20, 35, 39}


def option() -> st.SearchStrategy[tuple[int, bytes]]:
    number = st.one_of(st.sampled_from(sorted(OPTIONS)), st.integers(0, 0xFFFF))
    return number.flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.text(max_size=20).map(str.encode) if n in STRINGS else st.binary(max_size=300),
        )
    )


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from([Type.CON, Type.NON, Type.ACK]))
    codes = st.integers(64, 191) if kind is Type.ACK else st.integers(1, 31) | st.integers(64, 191)
    options = draw(st.lists(option(), max_size=MAX_OPTIONS))
    return Message(
        kind,
        draw(codes),
        draw(st.integers(0, 0xFFFF)),
        draw(st.binary(max_size=8)),
        tuple(sorted(options, key=lambda one: one[0])),
        draw(st.binary(max_size=100)),
    )


@st.composite
def nearly_telemetry(draw: st.DrawFn) -> bytes:
    """What the fast lane is for, often with something that it must not overlook."""
    path = draw(st.sampled_from(sorted(PATHS)))
    options = [(11, part.encode()) for part in path]
    formats = FORMATS[PATHS[path]]
    value = draw(st.sampled_from(formats)).to_bytes(draw(st.integers(1, 3)), "big")
    options += draw(st.sampled_from([[(12, value)], [(12, value)], [], [(12, value)] * 2]))
    options += draw(
        st.one_of(
            st.just([]),
            st.binary(max_size=2).map(lambda one: [(258, one)]),
            option().map(lambda one: [one]),
        )
    )
    return encode(
        Message(
            draw(st.sampled_from([Type.CON, Type.NON])),
            draw(st.integers(1, 4)),
            draw(st.integers(0, 0xFFFF)),
            draw(st.binary(max_size=8)),
            tuple(options),
            draw(st.binary(max_size=40)),
        )
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good message with bytes changed, cut or added."""
    raw = bytearray(draw(st.one_of(messages().map(encode), nearly_telemetry())))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(raw)))
        raw[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


ANYTHING = st.one_of(st.binary(max_size=80), nearly_telemetry(), damaged(), messages().map(encode))


class Idle:
    """An implementation with nothing in hand."""

    def next_message_id(self) -> int:
        return 0x7777

    def in_hand(self, endpoint: Endpoint) -> int:
        return 0

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        return False


def guard() -> Guard:
    return Guard(Config(rate_per_s=0.0), Idle())


BED = Endpoint(1, "bed")


@given(messages())
def test_what_is_encoded_is_read_back(message: Message) -> None:
    assert decode_untrusted(encode(message)) == message


@given(ANYTHING)
def test_the_decoder_refuses_in_one_way_only_and_is_exact_otherwise(data: bytes) -> None:
    try:
        message = decode_untrusted(data)
    except MessageFormatError:
        return
    assert encode(message) == data


@given(ANYTHING)
@example(b"\x50\x02\0\0\xb1v\x11p\xff\xff")
def test_a_claim_is_what_the_decoder_reads(data: bytes) -> None:
    claimed = claim(data)
    if claimed is None:
        return
    message = decode_untrusted(data)
    assert claimed.confirmable is (message.type is Type.CON)
    assert (claimed.mid, claimed.token) == (message.mid, message.token)
    assert claimed.payload == message.payload != b""
    assert PATHS[tuple(one.decode() for one in message.values(Option.URI_PATH))] is claimed.kind
    assert claimed.content_format == message.uint(Option.CONTENT_FORMAT)
    assert claimed.content_format in FORMATS[claimed.kind]
    assert claimed.no_response == (message.uint(Option.NO_RESPONSE) or 0)
    assert {n for n, _ in message.options} <= {11, 12, 258}


@given(nearly_telemetry())
def test_what_the_fast_lane_claims_would_have_passed_the_guard_unchanged(data: bytes) -> None:
    if claim(data) is not None:
        assert guard().judge(BED, data, 0.0) == Dispatch(decode_untrusted(data))


@given(st.lists(ANYTHING, max_size=5))
def test_the_guard_answers_anything_with_sense(datagrams: list[bytes]) -> None:
    one = guard()
    for now, data in enumerate(datagrams):
        verdict = one.judge(BED, data, float(now))
        if isinstance(verdict, Dispatch):
            message = decode_untrusted(encode(verdict.message))
            assert message.options == verdict.message.options
            assert is_request(message.code) or is_response(message.code) or not message.code
            assert all(len(message.values(n)) <= 1 for n in (17, 23, 27, 35, 39))
        elif isinstance(verdict, Answer):
            answer = decode_untrusted(verdict.datagram)
            assert answer.code == 0 or is_response(answer.code)
            assert answer.mid in (0x7777, int.from_bytes(data[2:4], "big"))
        else:
            assert isinstance(verdict, Drop)


@given(st.lists(st.tuples(st.integers(0, 3), messages()), max_size=20))
def test_assemblies_raise_peer_errors_only_and_stay_bounded(
    pieces: list[tuple[int, Message]],
) -> None:
    assemblies = Assemblies(cap=2)
    for association, message in pieces:
        block1 = message.value(Option.BLOCK1)
        if block1 is None or len(block1) > 3:
            continue
        with contextlib.suppress(PeerError):
            assemblies.take_untrusted(association, message, 0.0)
        assert len(assemblies) <= 2


@given(st.binary(max_size=3))
def test_a_block_value_that_is_read_means_the_same_when_written(value: bytes) -> None:
    try:
        block = decode_block_untrusted(value)
    except PeerError:
        return
    assert decode_block_untrusted(block.encode()) == block
