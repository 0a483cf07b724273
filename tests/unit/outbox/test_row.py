"""gateway.outbox.row"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.lane import Lane
from gateway.outbox.row import intact, pack_rows, runs, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.outbox.entry import Entry


def rows(lane: Lane, first: int, entries: list[Entry]) -> list[tuple[int, bytes]]:
    parameters = pack_rows(lane, first, entries)
    return list(zip(parameters[::2], parameters[1::2], strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_an_entry_comes_back_as_it_was(
    make_entry: Callable[..., Entry], lane: Lane, keyed: bool, size: int
) -> None:
    entry = make_entry(lane, keyed=keyed, size=size)
    [(number, blob)] = rows(lane, 7, [entry])
    assert number == 7
    assert intact(lane, number, blob)
    assert unpack(lane, blob) == entry


def test_rows_are_numbered_without_a_gap(make_entry: Callable[..., Entry]) -> None:
    packed = rows(Lane.ROUTINE, 2**53 - 2, [make_entry() for _ in range(5)])
    assert [number for number, _ in packed] == list(range(2**53 - 2, 2**53 + 3))
    assert all(intact(Lane.ROUTINE, number, blob) for number, blob in packed)


def test_every_flipped_bit_is_found(make_entry: Callable[..., Entry]) -> None:
    [(number, blob)] = rows(Lane.ROUTINE, 1, [make_entry(size=20)])
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not intact(Lane.ROUTINE, number, bytes(damaged)), f"bit {bit}"


def test_a_row_in_the_place_of_another_is_found(make_entry: Callable[..., Entry]) -> None:
    [(number, blob)] = rows(Lane.ROUTINE, 1, [make_entry()])
    for bit in range(63):
        assert not intact(Lane.ROUTINE, number ^ 1 << bit, blob), f"bit {bit}"
    assert not intact(Lane.EMERGENCY, number, blob)


@pytest.mark.parametrize("length", [0, 3, 75])
def test_a_row_cut_short_is_found(make_entry: Callable[..., Entry], length: int) -> None:
    [(number, blob)] = rows(Lane.ROUTINE, 1, [make_entry()])
    assert not intact(Lane.ROUTINE, number, blob[:length])


def test_runs_hold_the_numbers_and_no_other() -> None:
    """A range of rows is deleted: a number in a gap may be of an entry that still waits."""
    assert runs([]) == []
    assert runs([7]) == [(7, 7)]
    assert runs([1, 2, 3, 5, 8, 9]) == [(1, 3), (5, 5), (8, 9)]
