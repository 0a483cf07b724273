"""What a gateway does to its outbox, in random order, beside a model that knows the outcome.

The model is no part of the outbox: it says what must be there when a turn of work was acknowledged,
and what may be there when it was not. One that was under way is done or not done, never by halves.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.cose.envelope import Envelope
from gateway.lane import Lane
from gateway.outbox.clerk import Change, Clerk, Settlement, Submission, Write
from gateway.outbox.entry import Entry, Status
from gateway.outbox.room import Room

if TYPE_CHECKING:
    from gateway.outbox.store import Store

_ROOM = 1 << 20
"""Little, for the ballast is made in proportion."""

_TURN_S = 12 * 3600.0
_EPOCH_TURNS = 10
"""An epoch is over long before its envelope may be pruned."""

_ALARMS = 4


@dataclass
class Content:
    """Of an outbox, as far as a promise was made about it."""

    rows: dict[Lane, dict[int, Entry]] = field(default_factory=lambda: {one: {} for one in Lane})
    dead: dict[int, tuple[Lane, Entry | None, str]] = field(default_factory=dict)
    alarms: dict[bytes, bytes] = field(default_factory=dict)
    delivered: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    keys: set[bytes] = field(default_factory=set)
    """Of entries that wait or were delivered, not of dead letters."""

    last_number: int = 0
    envelopes: set[bytes] | None = None
    """Epochs whose envelope is there; None in a model: those that :meth:`needed` says."""

    def copy(self) -> Content:
        return Content(
            rows={lane: dict(rows) for lane, rows in self.rows.items()},
            dead=dict(self.dead),
            alarms=dict(self.alarms),
            delivered=dict(self.delivered),
            keys=set(self.keys),
            last_number=self.last_number,
        )

    def needed(self) -> set[bytes]:
        """Epochs whose key somebody needs to read what is here."""
        entries = [entry for rows in self.rows.values() for entry in rows.values()]
        entries += [entry for _, entry, _ in self.dead.values() if entry is not None]
        return {entry.epoch for entry in entries}

    def differences(self, other: Content) -> list[str]:
        """What of this is not so in another, for people."""
        names = ("last_number", "delivered", "alarms", "dead", "keys")
        found = [f"{one} differ" for one in names if getattr(self, one) != getattr(other, one)]
        for lane in Lane:
            mine, others = self.rows[lane], other.rows[lane]
            gone, back = len(mine.keys() - others.keys()), len(others.keys() - mine.keys())
            if gone:
                found.append(f"{gone} acknowledged rows of the {lane} lane are missing")
            if back:
                found.append(f"{back} rows too many in the {lane} lane")
            if not gone and not back and mine != others:
                found.append(f"rows of the {lane} lane have other bytes")
        if other.envelopes is not None and not self.needed() <= other.envelopes:
            found.append("envelopes that entries need are missing")
        return found


def found_in(store: Store) -> tuple[Content, list[int]]:
    """What a store that was just opened holds, and the numbers of damaged rows."""
    damaged: list[int] = []
    content = Content(last_number=store.last_number, delivered=dict(store.delivered))
    for lane in Lane:
        entries, bad = store.read(lane, 0, 1 << 62, 1 << 30, 1 << 40)
        content.rows[lane] = dict(entries)
        damaged += bad
    for letter in store.dead_letters(0, 1 << 30):
        content.dead[letter.number] = (letter.lane, letter.entry, letter.reason)
    content.alarms = dict(store.alarms.all())
    content.keys = set(store.keys.recent())
    content.envelopes = {one.epoch for one in store.envelopes.get(content.needed())}
    return content, damaged


class _Clock:
    """Half a day a turn: envelopes grow old while somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_795_000_000.0 + self.now

    def synchronised(self) -> bool:
        return True


class Shift:
    """Turns of work at one store. ``held``: what its outbox holds at the start. If :meth:`turn`
    raises, :attr:`after` is what it holds if the turn came to be."""

    def __init__(self, store: Store, held: Content, source: random.Random) -> None:
        self._clock = _Clock()
        self._status = Status(max_bytes=_ROOM)
        self._clerk = Clerk(store, self._clock, Room(_ROOM, 0), self._status)
        self._source = source
        self._out: dict[Lane, list[int]] = {lane: [] for lane in Lane}
        self._epoch = source.randbytes(16)
        self._epoch_turns = 0
        self._sent: set[bytes] = set()
        self.held = held
        self.after = held

    def turn(self) -> None:
        """One thing that the writer's thread does."""
        self._clock.now += _TURN_S
        self._epoch_turns += 1
        self.after = self.held.copy()
        choice = self._source.random()
        if choice < 0.75:
            self._write()
        elif choice < 0.85:
            self._lease()
        elif choice < 0.9:
            self._clerk.rest()
        elif choice < 0.94:
            self._clerk.look_around()
        else:
            self._dead_letters()
        self.held = self.after

    def _write(self) -> None:
        lane = self._source.choice((Lane.EMERGENCY, Lane.ROUTINE, Lane.ROUTINE))
        writes: list[Write] = []
        for _ in range(self._source.choice((1, 1, 1, 2, 3))):
            choice = self._source.random()
            if choice < 0.7:
                writes.append(self._submission(lane))
            elif choice < 0.9:
                writes.append(self._settlement(lane))
            else:
                writes.append(self._alarm())
        self._number([one for one in writes if isinstance(one, Submission)])
        self._clerk.write(lane, writes)

    def _submission(self, lane: Lane) -> Submission:
        source = self._source
        if source.random() < 0.1 or self._epoch_turns >= _EPOCH_TURNS:
            self._epoch, self._epoch_turns = source.randbytes(16), 0
        made: dict[Lane, list[Entry]] = {one: [] for one in Lane}
        for _ in range(source.choice((1, 1, 1, 8))):
            to = Lane.ROUTINE if lane is Lane.EMERGENCY and source.random() < 0.2 else lane
            key = source.randbytes(16) if source.random() < 0.7 else None
            sealed = source.randbytes(source.randint(40, 1499))
            made[to].append(
                Entry(source.randbytes(16), to, b"p" * 16, source.getrandbits(41), self._epoch,
                      sealed, key)
            )  # fmt: skip
        envelopes = []
        if self._epoch not in self._sent:
            self._sent.add(self._epoch)
            message = source.randbytes(400)
            created_ms = int(self._clock.wall() * 1000)
            envelopes.append(Envelope(self._epoch, "gw", b"p" * 16, lane, created_ms, (), message))
        return Submission(made[Lane.EMERGENCY], made[Lane.ROUTINE], envelopes, 0, object())

    def _number(self, submissions: list[Submission]) -> None:
        """As the clerk does: one transaction, emergencies first."""
        for lane in (Lane.EMERGENCY, Lane.ROUTINE):
            for one in submissions:
                for entry in one.emergencies if lane is Lane.EMERGENCY else one.routine:
                    self.after.last_number += 1
                    self.after.rows[lane][self.after.last_number] = entry
                    if entry.key is not None:
                        self.after.keys.add(entry.key)

    def _settlement(self, lane: Lane) -> Settlement:
        done: list[int] = []
        retry: list[tuple[int, float]] = []
        dead: list[tuple[int, str]] = []
        after = self.after
        for number in self._out[lane]:
            choice = self._source.random()
            if choice < 0.2:
                retry.append((number, 0.0))
                continue
            entry = after.rows[lane].pop(number)
            if choice < 0.9:
                done.append(number)
                after.delivered[lane] += 1
            else:
                dead.append((number, "no"))
                after.dead[number] = (lane, entry, "no")
                if entry.key is not None:
                    after.keys.discard(entry.key)
        self._out[lane] = []
        return Settlement(done, retry, dead)

    def _alarm(self) -> Change:
        id_, sealed = bytes([self._source.randrange(_ALARMS)]), self._source.randbytes(60)
        if self._source.random() < 0.3:
            self.after.alarms.pop(id_, None)
            return Change(lambda store: store.alarms.keep([], [id_], 0))
        self.after.alarms[id_] = sealed
        return Change(lambda store: store.alarms.keep([(id_, sealed)], [], 0))

    def _lease(self) -> None:
        lane = self._source.choice(list(Lane))
        leased = self._clerk.lease(lane, self._source.randint(1, 20), 1 << 20, self._clock.now)
        self._out[lane] += [one.number for one in leased]

    def _dead_letters(self) -> None:
        numbers = self._source.sample(sorted(self.after.dead), k=len(self.after.dead) // 2)
        if self._source.random() < 0.5:
            for number in numbers:
                del self.after.dead[number]
            self._clerk.drop_dead(numbers)
            return
        for number in numbers:
            lane, entry, _ = self.after.dead.pop(number)
            assert entry is not None
            self.after.rows[lane][number] = entry
            if entry.key is not None:
                self.after.keys.add(entry.key)
        self._clerk.retry_dead(numbers)
