"""What waits for the writer's thread, whose turn it is, and when.

**Gathered.** A commit costs the disk whole pages and a sync, whether it holds one record or fifty:
a hundred bracelets that send one pack a second, evenly, would wear a card out with a hundred
commits a second. So in the long run routine commits are :data:`GATHER_S` apart, unless enough waits
to be worth one. Calm times are saved up: a ward that needs fewer commits than that never waits for
one, nor does a node that hands in a few minutes' packs, one after the other. No emergency waits.
"""

from __future__ import annotations

from collections import deque

from gateway.lane import Lane
from gateway.outbox.clerk import Question, Submission, Write

TURN_ROWS = 1000
"""Rows of a routine transaction: some milliseconds beside the sync itself."""

GATHER_S = 0.05
"""What a routine record waits at most, so that others share its commit."""

_ENOUGH = 64
"""Rows that do not wait for more."""

_SAVED_S = 10.0
"""Calm that counts: 200 commits."""

Item = Write | Question


class Turns:
    """Filled by one thread, emptied by another: each figure has only one that writes it."""

    def __init__(self) -> None:
        self._queues: dict[Lane, deque[Item]] = {lane: deque() for lane in Lane}
        self._put = 0
        self._taken = 0
        self._due = float("-inf")

    def put(self, lane: Lane, item: Item) -> None:
        """The last in its lane."""
        self._queues[lane].append(item)
        if lane is Lane.ROUTINE:
            self._put += _weight(item)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return any(self._queues.values())

    def wait_s(self, now: float) -> float:
        """How long what waits can wait for company; 0 or less: not at all."""
        if self._queues[Lane.EMERGENCY] or self._put - self._taken >= _ENOUGH:
            return 0.0
        return self._due - now

    def take(self, now: float) -> tuple[Lane, list[Write], list[Question]]:
        """The next turn: one lane's, for one transaction at this monotonic time."""
        lane = Lane.EMERGENCY if self._queues[Lane.EMERGENCY] else Lane.ROUTINE
        queue = self._queues[lane]
        writes: list[Write] = []
        questions: list[Question] = []
        weight = 0
        while queue and weight < TURN_ROWS:
            item = queue.popleft()
            weight += _weight(item)
            if isinstance(item, Question):
                questions.append(item)
            else:
                writes.append(item)
        if lane is Lane.ROUTINE:
            self._taken += weight
            if writes:
                self._due = min(max(self._due, now - _SAVED_S), now) + GATHER_S
        return lane, writes, questions


def _weight(item: Item) -> int:
    """Rows; a question, for whose answer somebody waits, counts as enough of them."""
    if isinstance(item, Submission):
        return len(item.emergencies) + len(item.routine)
    return _ENOUGH if isinstance(item, Question) else 0
