"""What the writer's thread does: one turn of writes, leases, the housekeeping of idle times.

Everything here runs in that thread and owns the store. Figures for others are copied out after
each commit, so that reading them costs no query and no lock.

**A full disk** is not a failure: SQLite found no room and undid the transaction. It is tried again
with the ballast given up. If that does not help either, messages are refused; what must not be
lost (settlements, alarms, envelopes whose epoch is in use) is owed and comes first in the next.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import OutboxFull
from gateway.lane import Lane
from gateway.outbox.connection import is_full
from gateway.outbox.entry import LaneStatus
from gateway.outbox.leases import Leases
from gateway.outbox.row import LAST_NUMBER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.cose.envelope import Envelope
    from gateway.outbox.entry import DeadLetter, Entry, Leased, Status
    from gateway.outbox.room import Room
    from gateway.outbox.store import Store

_log = logging.getLogger("outbox")

_RETRY_FULL_S = 60.0
_TELL_AGAIN_S = 60.0
_FULL = "the disk is full: all messages are refused (5.03) until there is room"
_NEARLY_FULL = "the disk is nearly full: only emergencies are taken until there is more room"
_NO_NUMBERS = "no numbers are left: deliver what waits, then begin with a new outbox"
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


class Question(NamedTuple):
    """Answered after the commit of its turn."""

    ask: Callable[[Clerk], object]
    future: asyncio.Future[Any]


Write = Submission | Settlement | Change


class _Removal(NamedTuple):
    """A settlement whose entries are no longer leased."""

    lane: Lane
    done: Sequence[tuple[int, Entry]]
    dead: Sequence[tuple[int, str]]


class Clerk:
    """The store, the leases of both lanes, and the figures."""

    def __init__(self, store: Store, clock: Clock, room: Room, status: Status) -> None:
        self.store = store
        self._clock = clock
        self._room = room
        self._status = status
        self._leases = {lane: Leases(store.rows[lane]) for lane in Lane}
        self._owed: list[Change | _Removal] = []
        self._next_prune = clock.monotonic()
        self._stalled = False
        self._told = ""
        self._tell_from = clock.monotonic()
        store.ballast.keep(status.max_bytes)
        if store.notice:
            _log.error("%s: %s", store.path, store.notice)
        self._count(*Lane)

    def write(self, lane: Lane, writes: Sequence[Write]) -> list[Lane]:
        """One transaction. ``lane``: whose queue they stood in. Returns the lanes that grew.

        Raises OutboxFull: the submissions are refused, the rest is done later.
        """
        submissions = [item for item in writes if isinstance(item, Submission)]
        batches = {
            Lane.EMERGENCY: [entry for item in submissions for entry in item.emergencies],
            Lane.ROUTINE: [entry for item in submissions for entry in item.routine],
        }
        self._owed += [
            self._taken(lane, item) if isinstance(item, Settlement) else item
            for item in writes
            if not isinstance(item, Submission)
        ]
        self._owed += self._chores()
        firsts: dict[Lane, int] = {}

        def add() -> None:
            for item in submissions:
                self.store.envelopes.add(item.envelopes)
            for batch_lane, entries in batches.items():
                if entries:
                    firsts[batch_lane] = self.store.last_number + 1
                    self.store.add(batch_lane, entries)
            self._pay()

        try:
            self._check_room(lane, submissions)
            self._commit(add if submissions else self._pay, lane)
        except OutboxFull:
            self._owed += [_envelopes(item) for item in submissions if item.envelopes]
            with contextlib.suppress(OutboxFull):
                self._commit(self._pay, Lane.EMERGENCY)
                self._owed = []
            self._count(*Lane)
            raise
        finally:
            # After the stored bytes have gone up, so that their sum never dips below the truth.
            self._room.committed += sum(item.size for item in submissions)
        touched = {lane, *(item.lane for item in self._owed if isinstance(item, _Removal))}
        self._owed = []
        for batch_lane, first in firsts.items():
            self._leases[batch_lane].added(first, batches[batch_lane])
        self._count(*(Lane if firsts else touched))
        return [*firsts, *self._freed()]

    def _check_room(self, lane: Lane, submissions: Sequence[Submission]) -> None:
        """What had room when it was queued has none once the ballast is given up: that is for
        emergencies and deletes. Raises OutboxFull, also when no numbers are left."""
        rows = sum(len(item.emergencies) + len(item.routine) for item in submissions)
        if self.store.last_number + rows > LAST_NUMBER:
            raise OutboxFull(_NO_NUMBERS, _RETRY_FULL_S)
        if lane is Lane.ROUTINE and submissions and not self.store.ballast.held:
            size = sum(item.size for item in submissions) + self._status.reserve_bytes
            if self.store.disk_free(size) < size:
                raise OutboxFull(_FULL, _RETRY_FULL_S)

    def _taken(self, lane: Lane, settlement: Settlement) -> _Removal:
        """What is settled is leased no more, whether or not the disk has room to say so."""
        leases = self._leases[lane]
        done = leases.take(settlement.done)
        leases.take([number for number, _ in settlement.dead])
        for number, due in settlement.retry:
            leases.give_back(number, due)
        return _Removal(lane, done, settlement.dead)

    def _pay(self) -> None:
        for item in self._owed:
            if isinstance(item, Change):
                item.apply(self.store)
                continue
            if item.done:
                self.store.remove_delivered(item.lane, item.done)
            if item.dead:
                self.store.bury(item.lane, item.dead, self._now_ms())

    def _commit(self, apply: Callable[[], object], lane: Lane) -> None:
        """One transaction. If there is no room for it, the ballast is given up, and if it is of the
        emergency lane it is tried again. Raises OutboxFull: it is as if nothing had been."""
        while True:
            try:
                self.store.begin()
                apply()
                self.store.commit()
            except sqlite3.OperationalError as error:
                if not is_full(error):
                    raise
                self.store.undo()
                if not self.store.ballast.give_up() or lane is Lane.ROUTINE:
                    raise OutboxFull(_FULL, _RETRY_FULL_S) from error
            else:
                return

    def _freed(self) -> Sequence[Lane]:
        """The lanes whose pumps were told that there is nothing while something was owed."""
        stalled, self._stalled = self._stalled, bool(self._owed)
        return tuple(Lane) if stalled and not self._owed else ()

    def lease(self, lane: Lane, limit: int, max_bytes: int, now: float) -> list[Leased]:
        """Damaged rows met on the way become dead letters. None while something is owed: what is
        delivered meanwhile would pile up in memory."""

        def read(
            after: int, before: int, rows: int, size: int
        ) -> tuple[list[tuple[int, Entry]], list[int]]:
            return self.store.read(lane, after, before, rows, size)

        while not self._owed:
            leased, damaged = self._leases[lane].lease(limit, max_bytes, now, read)
            if damaged:
                self._quarantine(lane, damaged)
            if leased or not damaged:
                return leased
        self._stalled = True
        return []

    def _quarantine(self, lane: Lane, numbers: Sequence[int]) -> None:
        at_ms = self._now_ms()
        with contextlib.suppress(OutboxFull):  # owed
            self.write(lane, [Change(lambda store: store.quarantine(lane, numbers, at_ms))])

    def answer(self, question: Question) -> object:
        """What is asked for, or the OutboxFull that it could not be done for."""
        try:
            return question.ask(self)
        except OutboxFull as error:
            return error

    def retry_dead(self, numbers: Sequence[int]) -> int:
        """Returns how many there were. Raises OutboxFull."""
        letters: list[DeadLetter] = []

        def unbury() -> None:
            letters[:] = self.store.unbury(numbers)

        self._commit(unbury, Lane.EMERGENCY)
        for letter in letters:
            if letter.entry is not None:
                self._leases[letter.lane].revive(letter.number, letter.entry)
        self._count(*Lane)
        return len(letters)

    def drop_dead(self, numbers: Sequence[int]) -> int:
        """Returns how many there were. Raises OutboxFull."""
        before = self.store.dead_rows
        self._commit(lambda: self.store.drop_dead(numbers), Lane.EMERGENCY)
        self._count()
        return before - self.store.dead_rows

    def rest(self) -> list[Lane]:
        """Nothing has come for a while after some work: fold the log into the database."""
        self._fold()
        return self.look_around()

    def close(self) -> None:
        """What is owed then is gone: delivered entries will be delivered again, under their ids."""
        if self._owed:
            with contextlib.suppress(OutboxFull):
                self._commit(self._pay, Lane.EMERGENCY)
        self._fold()
        self.store.abandon()

    def _fold(self) -> None:
        try:
            self.store.rest()
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            self.store.ballast.give_up()  # the log stays as it is, and is folded next time

    def look_around(self) -> list[Lane]:
        """Nothing has come for a while: the disk may have room again, envelopes may be old.
        Returns the lanes of which more can be leased now."""
        chores = self._chores()
        if chores or self._owed:
            with contextlib.suppress(OutboxFull):
                return self.write(Lane.EMERGENCY, chores)
        self._count()
        return list(self._freed())

    def _chores(self) -> list[Change]:
        """What is due, also when there is never nothing to do."""
        now = self._clock.monotonic()
        if now < self._next_prune:
            return []
        self._next_prune = now + _PRUNE_S
        before_ms = self._now_ms() - _ENVELOPES_KEPT_MS
        return [Change(lambda store: store.prune_envelopes(before_ms))]

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
        status.commits = store.commits
        status.size = room.stored = store.size
        room.disk_free = store.disk_free(status.max_bytes)
        low = ""
        if room.disk_free <= status.reserve_bytes:
            low = _NEARLY_FULL if room.disk_free > 0 else _FULL
        status.notice = "; ".join(filter(None, (store.notice, low)))
        self._tell(low)

    def _tell(self, low: str) -> None:
        """A line in the log when it has become worse, but not for each row at the border."""
        now = self._clock.monotonic()
        if low and low != self._told and now >= self._tell_from:
            _log.error("%s: %s", self.store.path, low)
            self._tell_from = now + _TELL_AGAIN_S
        elif self._told and not low:
            _log.warning("%s: the disk has room again", self.store.path)
        self._told = low

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)


def _envelopes(submission: Submission) -> Change:
    envelopes = submission.envelopes
    return Change(lambda store: store.envelopes.add(envelopes))
