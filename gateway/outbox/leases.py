"""Which entries of one lane are out, which came back, and where the next ones are. Pure.

Order of arrival: what came back and is due goes first (its numbers are the lowest), then what the
table holds above the cursor, then what was committed lately and is still in memory. That memory
feeds a sink that keeps up without reading the table; it has a cap, and what falls out is read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gateway.outbox.entry import Entry, Leased
from gateway.outbox.row import LAST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Read = Callable[[int, int, int, int], tuple[list[tuple[int, Entry]], list[int]]]
    """``Store.read`` of the lane: (after, before, limit, max bytes) -> (entries, damaged)."""

FRESH_ROWS = 4096
"""About 2 MiB a lane: some seconds of a busy ward."""


class _Basket:
    """Entries up to a count and a size; the first always fits. Full once one did not fit: what
    comes later must not overtake it."""

    __slots__ = ("full", "leased", "limit", "max_bytes")

    def __init__(self, limit: int, max_bytes: int) -> None:
        self.leased: list[Leased] = []
        self.limit = limit
        self.max_bytes = max_bytes
        self.full = limit <= 0

    def put(self, leased: Leased) -> bool:
        size = len(leased.entry[5])
        if self.full or (self.leased and size > self.max_bytes):
            self.full = True
            return False
        self.leased.append(leased)
        self.limit -= 1
        self.max_bytes -= size
        self.full = self.limit == 0
        return True


class Leases:
    """One lane's. Belongs to the writer's thread."""

    def __init__(self, rows: int) -> None:
        """``rows``: how many the table holds at the start."""
        self._out: dict[int, Leased] = {}
        self._returned: dict[int, tuple[Leased, float]] = {}
        """With the monotonic time from which on it is due."""

        self._fresh: deque[Leased] = deque()
        self._cursor = 0
        self._unread = rows
        """Rows of the table between the cursor and the memory."""

    def added(self, first: int, entries: Sequence[Entry]) -> None:
        """Entries were committed under consecutive numbers."""
        self._fresh.extend([Leased(first + at, entry) for at, entry in enumerate(entries)])
        while len(self._fresh) > FRESH_ROWS:
            self._fresh.popleft()
            self._unread += 1

    def lease(
        self, limit: int, max_bytes: int, now: float, read: Read
    ) -> tuple[list[Leased], list[int]]:
        """The next entries, and the numbers of damaged rows met on the way."""
        basket = _Basket(limit, max_bytes)
        for number in sorted([n for n, (_, due) in self._returned.items() if due <= now]):
            if not basket.put(self._returned[number][0]):
                break
            del self._returned[number]
        damaged: list[int] = []
        if self._unread and not basket.full:
            damaged = self._lease_from_table(basket, read)
        while self._fresh and not self._unread and not basket.full:
            fresh = self._fresh[0]
            if not basket.put(fresh):
                break
            self._fresh.popleft()
            self._cursor = fresh.number
        for leased in basket.leased:
            self._out[leased.number] = leased
        return basket.leased, damaged

    def _lease_from_table(self, basket: _Basket, read: Read) -> list[int]:
        before = self._fresh[0].number if self._fresh else LAST_NUMBER + 1
        entries, damaged = read(self._cursor, before, basket.limit, basket.max_bytes)
        if not entries and not damaged:
            self._unread = 0  # fewer were there than were counted: the store counts the loss
        for number, entry in entries:
            if not basket.put(Leased(number, entry)):
                damaged = [other for other in damaged if other < number]
                break
            self._cursor = number
            self._unread -= 1
        self._cursor = max([self._cursor, *damaged])
        self._unread -= len(damaged)
        return damaged

    def take(self, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
        """Leased entries are done or dead. Raises KeyError for one that is not out."""
        return [(number, self._out.pop(number).entry) for number in numbers]

    def give_back(self, number: int, due: float) -> None:
        """A leased entry is to be tried again. Raises KeyError for one that is not out."""
        leased = self._out.pop(number)
        self._returned[number] = Leased(number, leased.entry, leased.attempts + 1), due

    def revive(self, number: int, entry: Entry) -> None:
        """A dead letter is back in the table, under its old number."""
        if number > self._cursor:
            self._unread += 1
        else:
            self._returned[number] = Leased(number, entry), 0.0
