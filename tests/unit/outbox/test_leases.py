"""gateway.outbox.leases"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.outbox.leases import FRESH_ROWS, Leases

if TYPE_CHECKING:
    from collections.abc import Callable

BIG = 1 << 30


class Table:
    """A lane's table that counts how often it is read."""

    def __init__(self) -> None:
        self.rows: dict[int, Entry | None] = {}
        self.reads = 0

    def read(
        self, after: int, before: int, limit: int, max_bytes: int
    ) -> tuple[list[tuple[int, Entry]], list[int]]:
        self.reads += 1
        found = [(n, e) for n, e in sorted(self.rows.items()) if after < n < before][:limit]
        return [(n, e) for n, e in found if e], [n for n, e in found if not e]


def test_what_was_just_committed_is_not_read(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(0), Table()
    entries = [make_entry() for _ in range(5)]
    leases.added(1, entries)
    leased, _ = leases.lease(3, BIG, 0.0, table.read)
    assert [(item.number, item.entry) for item in leased] == list(enumerate(entries, 1))[:3]
    leased, _ = leases.lease(10, BIG, 0.0, table.read)
    assert [item.number for item in leased] == [4, 5]
    assert leases.lease(10, BIG, 0.0, table.read) == ([], [])
    assert table.reads == 0


def test_what_falls_out_of_memory_is_read_in_order(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(2), Table()
    entries = [make_entry() for _ in range(FRESH_ROWS + 10)]
    table.rows = dict(enumerate([make_entry(), make_entry(), *entries], 1))
    leases.added(3, entries)
    numbers: list[int] = []
    while batch := leases.lease(1000, BIG, 0.0, table.read)[0]:
        numbers += [item.number for item in batch]
    assert numbers == list(range(1, FRESH_ROWS + 13))
    assert table.reads == 1


def test_the_first_entry_always_fits(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(0), Table()
    leases.added(1, [make_entry(size=500), make_entry(size=500), make_entry(size=10)])
    assert [i.number for i in leases.lease(9, 100, 0.0, table.read)[0]] == [1]
    assert [i.number for i in leases.lease(9, 600, 0.0, table.read)[0]] == [2, 3]


def test_what_comes_back_goes_first_when_it_is_due(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(0), Table()
    leases.added(1, [make_entry() for _ in range(4)])
    leases.lease(2, BIG, 0.0, table.read)
    leases.give_back(2, 50.0)
    leases.give_back(1, 0.0)
    leased, _ = leases.lease(9, BIG, 49.0, table.read)
    assert [(item.number, item.attempts) for item in leased] == [(1, 1), (3, 0), (4, 0)]
    leased, _ = leases.lease(9, BIG, 50.0, table.read)
    assert [(item.number, item.attempts) for item in leased] == [(2, 1)]


@pytest.mark.parametrize("where", ["memory", "table"])
def test_a_smaller_entry_does_not_overtake_one_that_did_not_fit(
    make_entry: Callable[..., Entry], where: str
) -> None:
    leases, table = Leases(0), Table()
    leases.added(1, [make_entry(size=60), make_entry(size=60)])
    leases.lease(2, BIG, 0.0, table.read)
    leases.give_back(1, 0.0)
    leases.give_back(2, 0.0)
    small = make_entry(size=1)
    if where == "memory":
        leases.added(3, [small])
    else:
        table.rows = {3: small}
        leases.revive(3, small)
    assert [i.number for i in leases.lease(9, 100, 0.0, table.read)[0]] == [1]
    assert [i.number for i in leases.lease(9, 100, 0.0, table.read)[0]] == [2, 3]


def test_damaged_rows_are_named_once(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(3), Table()
    table.rows = {1: make_entry(), 2: None, 3: None}
    leased, damaged = leases.lease(9, BIG, 0.0, table.read)
    assert [item.number for item in leased] == [1]
    assert damaged == [2, 3]
    assert leases.lease(9, BIG, 0.0, table.read) == ([], [])


def test_only_what_is_out_can_be_settled(make_entry: Callable[..., Entry]) -> None:
    leases, table = Leases(0), Table()
    leases.added(1, [make_entry(Lane.ROUTINE)])
    with pytest.raises(KeyError):
        leases.take([1])
    leases.lease(1, BIG, 0.0, table.read)
    leases.take([1])
    with pytest.raises(KeyError):
        leases.give_back(1, 0.0)


def test_a_revived_entry_is_handed_out_once(make_entry: Callable[..., Entry]) -> None:
    """Above the cursor the table is read anyway; below it nobody would look again."""
    leases, table = Leases(0), Table()
    entry = make_entry()
    table.rows = {5: entry}
    leases.revive(5, entry)
    assert [i.number for i in leases.lease(9, BIG, 0.0, table.read)[0]] == [5]
    leases.take([5])
    leases.revive(5, entry)
    assert [i.number for i in leases.lease(9, BIG, 0.0, table.read)[0]] == [5]
    assert leases.lease(9, BIG, 0.0, table.read) == ([], [])
