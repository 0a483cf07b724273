"""Which options a receiver may act on, and the values of block options."""

from __future__ import annotations

import pytest

from gateway.coap.numbers import OPTIONS, Option, dotted, is_critical, option_name
from gateway.coap.options import Accepted, Block, accept, decode_block_untrusted, uint
from gateway.errors import BadRequestError

ALL = frozenset(OPTIONS)


def test_an_unknown_critical_option_refuses_the_message() -> None:
    assert accept(((11, b"v"), (65001, b"")), ALL) == Accepted((), 65001)


def test_an_unknown_elective_option_is_left_out() -> None:
    assert accept(((11, b"v"), (65000, b"x")), ALL) == Accepted(((11, b"v"),), None)


def test_an_option_that_is_not_understood_here_counts_as_unknown() -> None:
    assert accept(((Option.IF_MATCH, b""),), ALL - {Option.IF_MATCH}).refused == Option.IF_MATCH


@pytest.mark.parametrize(
    ("number", "value"),
    [(Option.URI_PORT, b"abc"), (Option.URI_HOST, b""), (Option.BLOCK1, b"abcd"), (17, b"abc")],
)
def test_a_critical_option_of_wrong_length_refuses_the_message(number: int, value: bytes) -> None:
    assert accept(((number, value),), ALL).refused == number


def test_an_elective_option_of_wrong_length_is_left_out() -> None:
    assert accept(((12, b"abc"), (258, b"ab")), ALL) == Accepted((), None)


def test_a_repeated_critical_option_that_may_not_be_refuses_the_message() -> None:
    assert accept(((17, b""), (17, b"")), ALL).refused == 17


def test_of_a_repeated_elective_option_the_first_counts() -> None:
    assert accept(((12, b"\x70"), (12, b"\x6e")), ALL).options == ((12, b"\x70"),)


def test_repeatable_options_may_be_repeated() -> None:
    options = ((1, b""), (1, b"x"), (11, b"s"), (11, b"a"), (15, b"q"), (15, b"r"))
    assert accept(options, ALL) == Accepted(options, None)


@pytest.mark.parametrize(
    ("value", "block"),
    [
        (b"", Block(0, False, 0)),
        (b"\x02", Block(0, False, 2)),
        (b"\x0e", Block(0, True, 6)),
        (b"\x15", Block(1, False, 5)),
        (b"\xff\xff\xfe", Block(0xFFFFF, True, 6)),
    ],
)
def test_block_values(value: bytes, block: Block) -> None:
    assert decode_block_untrusted(value) == block
    assert block.encode() == value


def test_the_reserved_block_size_is_refused() -> None:
    with pytest.raises(BadRequestError, match="reserved"):
        decode_block_untrusted(b"\x07")


def test_a_block_knows_its_place() -> None:
    block = Block(3, True, 2)
    assert (block.size, block.start) == (64, 192)


def test_integers_take_the_fewest_bytes() -> None:
    assert [uint(n) for n in (0, 1, 255, 256, 8192)] == [b"", b"\1", b"\xff", b"\1\0", b"\x20\0"]


def test_names_for_people() -> None:
    assert dotted(132) == "4.04"
    assert option_name(1) == "If-Match (1)"
    assert option_name(65001) == "65001"


def test_the_registry_agrees_with_the_parity_of_its_numbers() -> None:
    """RFC 7252 table 4: these are the critical ones of the base specification."""
    critical = {n for n in OPTIONS if is_critical(n)}
    assert {1, 3, 5, 7, 11, 15, 17, 35, 39} <= critical
    assert not {4, 6, 8, 12, 14, 20, 60, 258, 292} & critical
