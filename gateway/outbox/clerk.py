"""What the writer's thread does: one turn of writes, leases, the housekeeping of idle times.

Everything here runs in that thread and owns the store. Figures for others are copied out after
each commit, so that reading them costs no query and no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.lane import Lane
from gateway.outbox.entry import LaneStatus
from gateway.outbox.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.cose.envelope import Envelope
    from gateway.outbox.entry import Entry, Leased, Status
    from gateway.outbox.room import Room
    from gateway.outbox.store import Store

_PRUNE_S = 3600.0
_ENVELOPES_KEPT_MS = 7 * 24 * 3600 * 1000
"""A sink that lost an envelope and misses it can still have it for a week."""


class Submission(NamedTuple):
    emergencies: Sequence[Entry]
    routine: Sequence[Entry]
    envelopes: Sequence[Envelope]
    size: int
    """As counted against the quota."""

    token: object


class Settlement(NamedTuple):
    done: Sequence[int]
    retry: Sequence[tuple[int, float]]
    dead: Sequence[tuple[int, str]]


class Change(NamedTuple):
    """Something small to write, with nothing to answer."""

    apply: Callable[[Store], None]


Write = Submission | Settlement | Change


class Clerk:
    """The store, the leases of both lanes, and the figures."""

    def __init__(self, store: Store, clock: Clock, room: Room, status: Status) -> None:
        self.store = store
        self._clock = clock
        self._room = room
        self._status = status
        self._leases = {lane: Leases(store.rows[lane]) for lane in Lane}
        self._next_prune = clock.monotonic()
        self._count(*Lane)

    def write(self, lane: Lane, writes: Sequence[Write]) -> list[Lane]:
        """One transaction. ``lane``: whose queue they stood in. Returns the lanes that grew."""
        store = self.store
        submissions = [item for item in writes if isinstance(item, Submission)]
        batches = {
            Lane.EMERGENCY: [entry for item in submissions for entry in item.emergencies],
            Lane.ROUTINE: [entry for item in submissions for entry in item.routine],
        }
        firsts: dict[Lane, int] = {}
        self.store.begin()
        for item in submissions:
            self.store.envelopes.add(item.envelopes)
        for batch_lane, entries in batches.items():
            if entries:
                firsts[batch_lane] = self.store.last_number + 1
                self.store.add(batch_lane, entries)
        for write in writes:
            if isinstance(write, Settlement):
                self._settle(lane, write)
            elif isinstance(write, Change):
                write.apply(store)
        self.store.commit()
        for batch_lane, first in firsts.items():
            self._leases[batch_lane].added(first, batches[batch_lane])
        self._count(*(Lane if firsts else (lane,)))
        # After the stored bytes have gone up, so that their sum never dips below the truth.
        self._room.committed += sum(item.size for item in submissions)
        return list(firsts)

    def _settle(self, lane: Lane, settlement: Settlement) -> None:
        leases = self._leases[lane]
        if settlement.done:
            self.store.remove_delivered(lane, leases.take(settlement.done))
        if settlement.dead:
            leases.take([number for number, _ in settlement.dead])
            self.store.bury(lane, settlement.dead, self._now_ms())
        for number, due in settlement.retry:
            leases.give_back(number, due)

    def lease(self, lane: Lane, limit: int, max_bytes: int, now: float) -> list[Leased]:
        """Damaged rows met on the way become dead letters."""

        def read(
            after: int, before: int, rows: int, size: int
        ) -> tuple[list[tuple[int, Entry]], list[int]]:
            return self.store.read(lane, after, before, rows, size)

        while True:
            leased, damaged = self._leases[lane].lease(limit, max_bytes, now, read)
            if damaged:
                self.store.begin()
                self.store.quarantine(lane, damaged, self._now_ms())
                self.store.commit()
                self._count(lane)
            if leased or not damaged:
                return leased

    def retry_dead(self, numbers: Sequence[int]) -> int:
        """Returns how many there were."""
        wanted = set(numbers)
        letters = [
            letter
            for letter in self.store.dead_letters(0, self.store.dead_rows)
            if letter.number in wanted and letter.entry is not None
        ]
        self.store.begin()
        self.store.unbury(letters)
        self.store.commit()
        for letter in letters:
            if letter.entry is not None:
                self._leases[letter.lane].revive(letter.number, letter.entry)
        self._count(*Lane)
        return len(letters)

    def drop_dead(self, numbers: Sequence[int]) -> int:
        """Returns how many there were."""
        self.store.begin()
        dropped = self.store.drop_dead(numbers)
        self.store.commit()
        self._count()
        return dropped

    def rest(self) -> None:
        """Nothing has come for a while after some work: fold the log into the database."""
        self.store.rest()
        self.look_around()

    def look_around(self) -> None:
        """Nothing has come for a while: the disk may have room again, envelopes may be old."""
        now = self._clock.monotonic()
        if now >= self._next_prune:
            self._next_prune = now + _PRUNE_S
            self.store.begin()
            self.store.prune_envelopes(self._now_ms() - _ENVELOPES_KEPT_MS)
            self.store.commit()
        self._count()

    def _count(self, *lanes: Lane) -> None:
        """Copy the store's figures to where the event loop reads them."""
        status, room, store = self._status, self._room, self.store
        for lane in lanes:
            figures = status.lanes[lane]
            status.lanes[lane] = LaneStatus(
                rows=store.rows[lane],
                size=store.sizes[lane],
                oldest_ms=store.oldest_ms(lane) if store.rows[lane] else None,
                delivered=store.delivered[lane],
                refused=figures.refused,
            )
        status.dead, status.damaged, status.lost = store.dead_rows, store.damaged, store.lost
        status.last_number = store.last_number
        status.commits, status.notice = store.commits, store.notice
        status.size = room.stored = store.size
        room.disk_free = store.disk_free(status.max_bytes)

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)
