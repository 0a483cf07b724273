"""The only place that asks the system what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """``monotonic`` for every timer, ``wall`` for what people and other machines read."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    def wall(self) -> float:
        """UTC seconds since 1970."""
        ...

    def synchronised(self) -> bool:
        """Whether ``wall`` can be trusted."""
        ...


_EARLIEST_PLAUSIBLE = 1_790_000_000.0
"""2026-09: a Raspberry Pi has no clock of its own and starts in the past."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def synchronised(self) -> bool:
        """A date after this program was written: the least that a stored time must satisfy."""
        return time.time() > _EARLIEST_PLAUSIBLE


def iso(wall: float) -> str:
    """UTC seconds since 1970 as ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
