"""A run of consecutive RR intervals beyond a limit, with hysteresis.

Extreme bradycardia and extreme tachycardia differ only in these numbers. The run is strict: every
one of its intervals is beyond the limit. It ends after as many intervals within a milder limit as
it took to begin, so that a rate that sways about the limit is one alarm and not ten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.vitals.patient import Stream


class Run:
    """A run of ``length`` intervals longer than ``limit_s``, over at ``clear_s`` or less.

    With ``short`` it is intervals shorter than ``limit_s``, over at ``clear_s`` or more.
    """

    __slots__ = ("_calm", "_clear", "_count", "_length", "_limit", "_sign", "active", "since")

    def __init__(self, length: int, limit_s: float, clear_s: float, *, short: bool = False) -> None:
        self._length = length
        # "Shorter than" is "longer than" with both sides negative.
        self._sign = -1.0 if short else 1.0
        self._limit = limit_s * self._sign
        self._clear = clear_s * self._sign
        self._count = 0
        self._calm = 0
        self.active = False
        self.since = 0.0
        """Node's time of the beat before the first interval of the run."""

    def update(self, stream: Stream) -> bool:
        """Take the new beats; whether the condition holds or was met within them."""
        if stream.contact is False:
            # Nothing is known of the rhythm while the sensor is off; contact has its own rule.
            self.active = False
            self._count = 0
            return False
        if not stream.beats:
            return self.active
        if stream.lost:
            self._count = 0
        met = self.active
        for time, rr in stream.beats:
            length = rr * self._sign
            if self.active:
                self._calm = self._calm + 1 if length <= self._clear else 0
                if self._calm == self._length:
                    self.active = False
                    self._count = 0
            elif length > self._limit:
                if self._count == 0:
                    self.since = time - rr
                self._count += 1
                if self._count == self._length:
                    self.active = met = True
                    self._calm = 0
            else:
                self._count = 0
        return met and (self.active or self._calm < len(stream.beats))
