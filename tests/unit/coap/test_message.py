"""Strictness of the decoder, form by form (RFC 7252 sections 3 and 4)."""

from __future__ import annotations

import pytest

from gateway.coap.message import (
    Message,
    confirmable_mid_untrusted,
    decode_untrusted,
    empty_ack,
    encode,
    reset,
)
from gateway.coap.numbers import Code, Option, Type
from gateway.errors import MessageFormatError


def test_a_request_is_read() -> None:
    message = decode_untrusted(bytes.fromhex("41017d3420bb") + b"temperature")
    assert message == Message(
        Type.CON, Code.GET, 0x7D34, b"\x20", ((Option.URI_PATH, b"temperature"),), b""
    )


def test_an_answer_is_read() -> None:
    message = decode_untrusted(bytes.fromhex("61457d3420ff") + b"22.3 C")
    assert message == Message(Type.ACK, Code.CONTENT, 0x7D34, b"\x20", (), b"22.3 C")


def test_extended_deltas_and_lengths_are_read() -> None:
    options = ((11, b"a" * 13), (60, b"\x01"), (258, b"\x02"), (292, b""), (65000, b"b" * 300))
    message = Message(Type.NON, Code.POST, 1, b"", options, b"x")
    assert decode_untrusted(encode(message)) == message


def test_options_are_sorted_and_equal_ones_keep_their_order() -> None:
    message = Message(Type.CON, Code.PUT, 1, b"", ((12, b"\x70"), (11, b"s"), (11, b"a")), b"")
    assert decode_untrusted(encode(message)).options == ((11, b"s"), (11, b"a"), (12, b"\x70"))


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        ("", "shorter"),
        ("400100", "shorter"),
        ("80010001", "version"),
        ("00010001", "version"),
        ("49010001" + "00" * 9, "token length"),
        ("4f010001" + "00" * 15, "token length"),
        ("4201000101", "token is cut"),
        ("40200001", "reserved code class"),
        ("40c00001", "reserved code class"),
        ("40e10001", "reserved code class"),
        ("60010001", "in an Acknowledgement"),
        ("70450001", "Reset is Empty"),
        ("50000001", "not Empty"),
        ("64000001", "Empty"),
        ("4000000100", "ends with its Message ID"),
        ("4100000101", "ends with its Message ID"),
        ("40010001ff", "without a payload"),
        ("40010001f0", "reserved option"),
        ("400100010f", "reserved option"),
        ("40010001b2", "cut short"),
        ("40010001b261", "cut short"),
        ("40010001d0", "header is cut"),
        ("40010001e000", "header is cut"),
        ("40010001e0ffffe0ffff", "above 65535"),
        ("40010001b1ff", "UTF-8"),
        ("40010001b2c328", "UTF-8"),
        ("4001000131ff", "UTF-8"),
        ("40010001d102ff", "UTF-8"),
        ("40010001" + "00" * 65, "more than 64"),
    ],
)
def test_a_malformed_message_is_refused_with_its_reason(datagram: str, reason: str) -> None:
    with pytest.raises(MessageFormatError, match=reason):
        decode_untrusted(bytes.fromhex(datagram))


@pytest.mark.parametrize(
    "datagram",
    [
        "40000001",
        "60000001",
        "70000001",
        "401f0001",
        "405f0001",
        "60450001",
        "50450001",
        "40010001" + "00" * 64,
        "40010001b1" + b"v".hex(),
        "48010001" + "00" * 8,
    ],
)
def test_what_is_only_unusual_is_read(datagram: str) -> None:
    raw = bytes.fromhex(datagram)
    assert encode(decode_untrusted(raw)) == raw


def test_resets_and_acknowledgements_are_four_bytes() -> None:
    assert reset(0x1234) == bytes.fromhex("70001234")
    assert empty_ack(0x1234) == bytes.fromhex("60001234")


@pytest.mark.parametrize(
    ("datagram", "mid"),
    [
        ("4f010102", 0x0102),
        ("40000304", 0x0304),
        ("50010102", None),
        ("60450102", None),
        ("70000102", None),
        ("c0010102", None),
        ("400101", None),
    ],
)
def test_only_a_confirmable_message_can_be_reset(datagram: str, mid: int | None) -> None:
    assert confirmable_mid_untrusted(bytes.fromhex(datagram)) == mid


def test_values_of_options_are_found() -> None:
    message = Message(Type.CON, 1, 1, b"", ((11, b"a"), (11, b"b"), (12, b"\x01\x00")))
    assert message.value(11) == b"a"
    assert message.values(11) == (b"a", b"b")
    assert message.uint(12) == 256
    assert message.uint(14) is None
    assert message.value(14) is None
