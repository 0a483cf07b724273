"""What the fast lane claims, what it leaves to the other lane, and its answers."""

from __future__ import annotations

import pytest

from gateway.coap.fastlane import Kind, Telemetry, answer, claim
from gateway.coap.message import MAX_DATAGRAM, Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type

V = ((11, b"v"), (12, b"\x70"))


def post(
    *options: tuple[int, bytes],
    kind: Type = Type.CON,
    code: int = Code.POST,
    token: bytes = b"\x01",
    payload: bytes = b"p",
) -> bytes:
    return encode(Message(kind, code, 7, token, options, payload))


@pytest.mark.parametrize(
    ("path", "content_format", "kind"),
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
def test_telemetry_is_claimed_on_every_path(
    path: tuple[str, ...], content_format: int, kind: Kind
) -> None:
    options = [(11, part.encode()) for part in path]
    found = claim(post(*options, (12, bytes([content_format]))))
    assert found == Telemetry(True, 7, b"\x01", kind, content_format, b"p", 0)


def test_what_a_claim_tells() -> None:
    found = claim(
        post(*V, (258, b"\x1a"), kind=Type.NON, code=Code.PUT, token=b"\xff" * 8, payload=b"\xff\0")
    )
    assert found == Telemetry(False, 7, b"\xff" * 8, Kind.VITALS, 112, b"\xff\0", 26)


def test_a_number_with_leading_zeros_is_the_same_number() -> None:
    found = claim(post((11, b"v"), (12, b"\0\x70"), (258, b"")))
    assert found is not None
    assert (found.content_format, found.no_response) == (112, 0)


@pytest.mark.parametrize(
    "datagram",
    [
        post(*V, code=Code.GET),
        post(*V, code=Code.FETCH),
        post(*V, code=Code.EMPTY + 8),
        post(*V, payload=b""),
        post((11, b"v")),
        post((12, b"\x70")),
        post((11, b"v"), (12, b"\x10")),
        post((11, b"s"), (12, b"\x70")),
        post((11, b"v"), (12, b"\x3c")),
        post((11, b"v"), (11, b""), (12, b"\x70")),
        post((11, b"V"), (12, b"\x70")),
        post((11, b"time"), (12, b"\x70")),
        post((3, b"gw"), *V),
        post((7, b"\x16\x34"), *V),
        post(*V, (17, b"\x70")),
        post(*V, (27, b"\x0e")),
        post(*V, (60, b"\x01")),
        post(*V, (6, b"")),
        post(*V, (15, b"q")),
        post(*V, (12, b"\x70")),
        post((11, b"v"), (12, b"\0\0\x70")),
        post(*V, (258, b"\0\x02")),
        post(*V, (258, b"\xff")),
        post(*V, (258, b"\x02"), (258, b"\x02")),
        post(*V, (258, b"\x02"), (292, b"\x02")),
        post((11, b"v" * 40), (12, b"\x70")),
        post(*V, payload=b"p" * MAX_DATAGRAM),
        post(*V)[:-1],
        b"\x80" + post(*V)[1:],
        b"\x49\x02\0\7" + b"t" * 9 + post(*V, token=b"")[4:],
        b"\x60" + post(*V)[1:],
        b"",
        b"\x48\x02\0\0\0\0\0\0\xff",
    ],
)
def test_everything_else_is_left_to_the_other_lane(datagram: bytes) -> None:
    assert claim(datagram) is None


def test_the_longest_datagram_is_claimed() -> None:
    head = len(post(*V, payload=b"p")) - 1
    assert claim(post(*V, payload=b"p" * (MAX_DATAGRAM - head))) is not None
    assert claim(post(*V, payload=b"p" * (MAX_DATAGRAM - head + 1))) is None


def telemetry(*, confirmable: bool = True, no_response: int = 0) -> Telemetry:
    return Telemetry(confirmable, 7, b"\x01\x02", Kind.VITALS, 112, b"p", no_response)


def test_success_rides_on_the_acknowledgement() -> None:
    assert answer(telemetry(), Code.CHANGED) == bytes.fromhex("624400070102")


def test_a_refusal_says_when_how_much_and_why() -> None:
    raw = answer(telemetry(), 141, max_age=60, size1=8192, diagnostic="zu groß")
    assert decode_untrusted(raw) == Message(
        Type.ACK,
        Code.REQUEST_ENTITY_TOO_LARGE,
        7,
        b"\x01\x02",
        ((Option.MAX_AGE, b"\x3c"), (Option.SIZE1, b"\x20\x00")),
        "zu groß".encode(),
    )


def test_a_long_reason_is_cut_between_characters() -> None:
    raw = answer(telemetry(), 128, diagnostic="x" + "ß" * 200)
    assert decode_untrusted(raw).payload == b"x" + "ß".encode() * 127


@pytest.mark.parametrize(
    ("no_response", "code", "silent"),
    [(2, 68, True), (8, 128, True), (16, 163, True), (2, 128, False), (24, 68, False)],
)
def test_no_response_leaves_an_empty_acknowledgement(
    no_response: int, code: int, silent: bool
) -> None:
    raw = answer(telemetry(no_response=no_response), code)
    assert (raw == bytes.fromhex("60000007")) is silent
    assert (decode_untrusted(raw).code == code) is not silent


def test_a_non_confirmable_message_needs_an_id_of_ours() -> None:
    assert answer(telemetry(confirmable=False), Code.CHANGED) == b""
    raw = answer(telemetry(confirmable=False), Code.CHANGED, mid=0x0102)
    assert raw == bytes.fromhex("524401020102")
    assert answer(telemetry(confirmable=False, no_response=2), Code.CHANGED, mid=1) == b""
