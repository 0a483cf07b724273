"""How much the outbox holds, and whether one more entry of a lane may come in. No query.

Two threads keep these figures, and no lock does: each figure is written by one of them. The event
loop adds what it queues, the writer says after each commit what the store holds and how far it
has come.
"""

from __future__ import annotations

from gateway.errors import OutboxFull
from gateway.lane import Lane
from gateway.outbox.row import ROW_OVERHEAD

MAX_QUEUED_BYTES = 32 << 20
"""Routine bytes that may wait for their commit: a second of what a fast disk takes. Memory, so
it has a cap; emergencies are not held to it, their own rate limits are far below."""

_USUAL_BYTES = 512
"""Of a sealed record."""

_RETRY_FULL_S = 60.0
_RETRY_BEHIND_S = 2.0


class Room:
    """Bytes of rows, envelopes and dead letters against a quota with a reserve."""

    __slots__ = ("_max", "_queued", "_routine", "committed", "disk_free", "refused", "stored")

    def __init__(self, max_bytes: int, reserve_bytes: int) -> None:
        self._max = max_bytes
        self._routine = max_bytes - reserve_bytes
        self._queued = 0
        self.committed = 0
        """Of the bytes that were queued, how many are on disk. Written by the writer."""

        self.stored = 0
        """Bytes that the store holds. Written by the writer."""

        self.disk_free = self._max
        """Bytes that the partition can still take. Written by the writer."""

        self.refused = dict.fromkeys(Lane, 0)

    def resize(self, max_bytes: int, reserve_bytes: int) -> None:
        """Another quota; what is over it already stays."""
        self._max = max_bytes
        self._routine = max_bytes - reserve_bytes

    def queue(self, size: int) -> None:
        """Bytes on their way to the writer, which adds them to ``committed`` later."""
        self._queued += size

    def full(self) -> bool:
        """Whether an emergency of the usual size would be refused."""
        more = self._queued - self.committed + _USUAL_BYTES + ROW_OVERHEAD
        return self.stored + more > self._max or more > self.disk_free

    def check(self, lane: Lane, size: int) -> None:
        """Raises OutboxFull; ``size`` is that of a sealed record."""
        waiting = self._queued - self.committed
        more = waiting + size + ROW_OVERHEAD
        limit = self._max
        free = self.disk_free
        if lane is Lane.ROUTINE:
            if waiting > MAX_QUEUED_BYTES:
                self.refused[lane] += 1
                raise OutboxFull("the disk is behind", _RETRY_BEHIND_S)
            limit = self._routine
            free -= self._max - self._routine
        if self.stored + more > limit or more > free:
            self.refused[lane] += 1
            raise OutboxFull(f"no room for {lane} records", _RETRY_FULL_S)
