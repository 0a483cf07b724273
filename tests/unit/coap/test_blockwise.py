"""Bodies in blocks: order, size, number, expiry (RFC 7959)."""

from __future__ import annotations

import pytest

from gateway.coap.blockwise import LIFETIME, MAX_BODY, Assemblies, TransfersFullError
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type
from gateway.coap.options import Block, uint
from gateway.errors import BadRequestError, IncompleteError, TooLargeError


def block(
    number: int,
    payload: bytes,
    *extra: tuple[int, bytes],
    more: bool = True,
    exponent: int = 0,
    code: int = Code.POST,
) -> Message:
    value = Block(number, more, exponent).encode()
    options = ((11, b"v"), (27, value), *extra)
    return Message(Type.CON, code, number, b"", options, payload)


A, B, C = b"a" * 16, b"b" * 16, b"c" * 5


def test_blocks_in_order_make_a_body() -> None:
    assemblies = Assemblies()
    assert assemblies.take_untrusted(1, block(0, A), 0.0) is None
    assert assemblies.take_untrusted(1, block(1, B), 0.0) is None
    assert assemblies.take_untrusted(1, block(2, C, more=False), 0.0) == A + B + C
    assert len(assemblies) == 0


def test_a_single_block_is_a_body() -> None:
    assemblies = Assemblies()
    assert assemblies.take_untrusted(1, block(0, C, more=False), 0.0) == C
    assert len(assemblies) == 0


def test_a_client_may_go_on_with_smaller_blocks() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A + B, exponent=1), 0.0)
    assert assemblies.take_untrusted(1, block(2, C, more=False), 0.0) == A + B + C


def test_a_gap_ends_the_assembly() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(1, block(2, C, more=False), 0.0)
    assert len(assemblies) == 0


def test_a_block_without_its_beginning_is_incomplete() -> None:
    with pytest.raises(IncompleteError):
        Assemblies().take_untrusted(1, block(1, A), 0.0)


def test_a_block_that_comes_again_changes_nothing() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.take_untrusted(1, block(1, B), 0.0)
    assert assemblies.take_untrusted(1, block(1, B), 0.0) is None
    assert assemblies.take_untrusted(1, block(2, C, more=False), 0.0) == A + B + C


def test_other_bytes_in_the_same_place_end_the_assembly() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.take_untrusted(1, block(1, B), 0.0)
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(1, block(1, A), 0.0)


def test_a_new_first_block_begins_anew() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.take_untrusted(1, block(1, A), 0.0)
    assemblies.take_untrusted(1, block(0, B), 0.0)
    assert assemblies.take_untrusted(1, block(1, C, more=False), 0.0) == B + C


@pytest.mark.parametrize(
    "other",
    [
        block(1, C, (Option.REQUEST_TAG, b"2"), more=False),
        block(1, C, (Option.CONTENT_FORMAT, b"\x70"), more=False),
        block(1, C, more=False, code=Code.PUT),
    ],
)
def test_blocks_of_another_body_do_not_fit(other: Message) -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(1, other, 0.0)


def test_size1_may_be_in_the_first_block_only() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A, (Option.SIZE1, b"\x15")), 0.0)
    assert assemblies.take_untrusted(1, block(1, C, more=False), 0.0) == A + C


def test_peers_do_not_share_a_body() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(2, block(1, C, more=False), 0.0)
    assert assemblies.take_untrusted(1, block(1, C, more=False), 0.0) == A + C


@pytest.mark.parametrize("wrong", [block(0, C), block(0, A + b"x"), block(0, A + b"x", more=False)])
def test_a_block_is_as_long_as_it_says(wrong: Message) -> None:
    with pytest.raises(BadRequestError):
        Assemblies().take_untrusted(1, wrong, 0.0)


def test_the_largest_body_fits() -> None:
    assemblies = Assemblies()
    count = MAX_BODY // 1024
    for number in range(count):
        body = assemblies.take_untrusted(
            1, block(number, b"x" * 1024, exponent=6, more=number + 1 < count), 0.0
        )
    assert body == b"x" * MAX_BODY


@pytest.mark.parametrize(
    "long",
    [
        block(0, A, (Option.SIZE1, uint(MAX_BODY + 1))),
        block(8, b"x" * 1024, exponent=6),
        block(0xFFFFF, b"x" * 1024, exponent=6),
    ],
)
def test_a_body_that_would_be_longer_is_refused_with_the_limit(long: Message) -> None:
    with pytest.raises(TooLargeError) as caught:
        Assemblies().take_untrusted(1, long, 0.0)
    assert caught.value.limit == MAX_BODY


def test_only_so_many_bodies_at_once_and_those_under_way_go_on() -> None:
    assemblies = Assemblies(cap=2)
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.take_untrusted(2, block(0, A), 1.0)
    with pytest.raises(TransfersFullError):
        assemblies.take_untrusted(3, block(0, A), 2.0)
    assert assemblies.take_untrusted(1, block(1, C, more=False), 2.0) == A + C
    assert assemblies.take_untrusted(3, block(0, A), 2.0) is None


def test_a_forgotten_body_makes_room() -> None:
    assemblies = Assemblies(cap=1)
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assert assemblies.take_untrusted(2, block(0, A), LIFETIME) is None
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(1, block(1, C, more=False), LIFETIME)


def test_a_body_is_over_when_its_time_is_even_before_a_sweep() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    with pytest.raises(IncompleteError):
        assemblies.take_untrusted(1, block(1, C, more=False), LIFETIME)


def test_a_body_lives_from_its_last_block() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.take_untrusted(1, block(1, B), LIFETIME - 1)
    assemblies.sweep(2 * LIFETIME - 2)
    assert len(assemblies) == 1
    assemblies.sweep(2 * LIFETIME - 1)
    assert len(assemblies) == 0


def test_a_body_ends_with_its_association() -> None:
    assemblies = Assemblies()
    assemblies.take_untrusted(1, block(0, A), 0.0)
    assemblies.drop(1)
    assert len(assemblies) == 0
