"""Whether a lane tries at all, and how much it risks. Pure.

Closed: deliver. Open: wait until a time. Half open: that time has come, and one small batch is
sent to see; it closes the breaker or opens it again. So a sink that is away costs one small
request a wait, not a full batch, and one that comes back under load is not hit by all of it.
"""

from __future__ import annotations

from enum import StrEnum

OPENS_AFTER = 3
"""Failures in a row until a full batch is no longer risked; one lost connection is no outage."""


class State(StrEnum):
    """Of one lane's breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """One lane's. ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""

        self.next_try = 0.0
        """No try before it."""

    def state(self, now: float) -> State:
        """Closed until :data:`OPENS_AFTER` failures in a row."""
        if self.failures < OPENS_AFTER:
            return State.CLOSED
        return State.OPEN if now < self.next_try else State.HALF_OPEN

    def failed(self, next_try: float) -> None:
        """Another failure; nothing is tried before ``next_try``."""
        self.failures += 1
        self.next_try = next_try

    def succeeded(self) -> None:
        """Closed again."""
        self.failures = 0
        self.next_try = 0.0
