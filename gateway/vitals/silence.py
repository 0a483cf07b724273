"""Silence: a device that was heard and is not heard any more is an alarm of its own. Pure.

A battery that is pulled says no goodbye, and one that says goodbye and does not come back has left
its patient unwatched too: so neither the end of an association nor a clean one ends the watch. It
begins with the first message of a device and ends with its place in the roster.

===================  ===========================================================================
the rule             **silent after two periods without a message, and half a second**: the second
                     missed one was due
heard                every message of the device that reaches the intake: stored, refused or
                     repeated, over whichever association. What is repeated within an exchange,
                     word for word, is answered before it and counts nothing
a gap                the time from one visit to the next; messages less than 1 s after the visit
                     began belong to it, so a burst of packs is one visit
its period           the second longest of the last 8 gaps. One outage does not change it; a node
                     that sends at 0, 2 and 60 s has a period of 58
one gap teaches      at most twice the period known, so a patient who walks out of reach for an
                     hour, twice, does not make an hour normal
bounds               15 s to 15 min. So silence takes 30 s at least: what monitors wait for before
                     "no telemetry" (GE ApexPro), and long enough for three lost tries of a
                     Confirmable message (RFC 7252 section 4.8: at most 21 s)
not known yet        60 s, until two gaps are known
after a restart      the period is remembered; two periods from the restart, so that every node has
                     had its turn. The same, nearly, for a time in which the gateway was stopped
===================  ===========================================================================

All times are monotonic: a wall clock that is set changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SLACK_S: Final = 0.5
SAME_VISIT_S: Final = 1.0
GAPS: Final = 8
DEAF_S: Final = 1.0
"""Longer than this between two sweeps, and the gateway itself did not listen."""
_LISTENED_S: Final = 0.25
"""What counts of such a time all the same, as of a usual one: or a gateway that is always so late
would never miss anybody."""

_KEEP_ANEW: Final = 1.25
"""A period that has changed by this factor is worth storing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """After how long a device that is not heard is an alarm: twice its period, within these."""

    shortest_period_s: float = 15.0
    """A device that sends more often is silent after twice this, in seconds, not earlier."""
    longest_period_s: float = 900.0
    """A device that sends less often is called silent between its messages."""
    first_period_s: float = 60.0
    """Taken for the period of a device that has sent two messages or fewer."""

    def __post_init__(self) -> None:
        if not 0 < self.shortest_period_s <= self.first_period_s <= self.longest_period_s:
            raise ValueError(
                "must be shortest_period_s <= first_period_s <= longest_period_s, above 0"
            )


class Watch(NamedTuple):
    """What must survive a restart of the watch over one device."""

    device: str
    patient: str
    added: str
    """When the device was entered: one that comes back under its old name is another."""
    period_s: float
    known: bool
    """Whether the period is the device's own."""


class Silent(NamedTuple):
    """A device that has just fallen silent."""

    device: str
    patient: str
    seconds: float
    """Since it was heard last, or since the start of the gateway."""
    period_s: float


class _Watched:
    __slots__ = ("added", "gaps", "heard", "kept", "patient", "period", "silent", "visit")

    def __init__(self, patient: str, added: str, period: float, now: float) -> None:
        self.patient = patient
        self.added = added
        self.gaps: deque[float] = deque(maxlen=GAPS)
        self.heard = now
        self.visit = now
        self.period = period
        self.kept = period
        """The period as it was stored last."""
        self.silent = False


class Silence:
    """The watch over all devices. Its size is bounded by the roster: only a device that is in it
    is ever heard, and :meth:`keep_only` drops what has left it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._watched: dict[str, _Watched] = {}
        self._last_sweep: float | None = None
        self._none_before = 0.0
        """No device can have fallen silent before this time."""
        self._unkept: set[str] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def heard(self, device: str, patient: str, added: str, now: float) -> bool:
        """A message of a device has come. Whether there is something to do about it: see
        :meth:`back` and :meth:`to_keep`."""
        one = self._watched.get(device)
        if one is None or one.added != added or one.patient != patient:
            was_silent = one is not None and one.silent
            one = _Watched(patient, added, self._config.first_period_s, now)
            one.silent = was_silent
            self._watched[device] = one
            self._unkept.add(device)
            self._expect(one)
            return True
        one.heard = now
        gap = now - one.visit
        if gap >= SAME_VISIT_S:
            one.visit = now
            self._learn(device, one, gap)
        return one.silent

    def back(self, device: str) -> bool:
        """Whether this device, just heard, was silent; from now on it is not."""
        one = self._watched[device]
        was_silent, one.silent = one.silent, False
        self._expect(one)
        return was_silent

    def sweep(self, now: float) -> list[Silent]:
        """Those that have fallen silent. Call every quarter of a second."""
        if self._last_sweep is not None and now - self._last_sweep > DEAF_S:
            deaf = now - self._last_sweep - _LISTENED_S
            for one in self._watched.values():
                one.heard = min(one.heard + deaf, now)
                one.visit = min(one.visit + deaf, now)
        self._last_sweep = now
        if now < self._none_before:
            return []
        found = []
        self._none_before = float("inf")
        for device, one in self._watched.items():
            if one.silent:
                continue
            if now >= self._limit(one):
                one.silent = True
                found.append(Silent(device, one.patient, now - one.heard, one.period))
            else:
                self._expect(one)
        return found

    def keep_only(self, is_current: Callable[[str, str, str], bool]) -> list[str]:
        """End the watch over devices of which ``is_current(device, patient, added)`` does not hold
        any more; which."""
        gone = [
            device
            for device, one in self._watched.items()
            if not is_current(device, one.patient, one.added)
        ]
        for device in gone:
            del self._watched[device]
            self._unkept.discard(device)
        return gone

    def to_keep(self) -> list[Watch]:
        """What has to be stored since the last call."""
        watches = []
        for device in self._unkept:
            one = self._watched[device]
            one.kept = one.period
            watches.append(Watch(device, one.patient, one.added, one.period, len(one.gaps) > 1))
        self._unkept.clear()
        return watches

    def restore(self, watch: Watch, now: float, *, silent: bool) -> None:
        """Watch a device again after a restart. ``silent``: its alarm is active."""
        one = _Watched(watch.patient, watch.added, watch.period_s, now)
        if watch.known:
            one.gaps.extend((watch.period_s, watch.period_s))
        one.period = self._bounded(watch.period_s)
        one.silent = silent
        self._watched[watch.device] = one
        self._last_sweep = now
        self._expect(one)

    def _learn(self, device: str, one: _Watched, gap: float) -> None:
        gaps = one.gaps
        gaps.append(min(gap, 2 * one.period) if len(gaps) > 1 else gap)
        if len(gaps) > 1:
            one.period = self._bounded(sorted(gaps)[-2])
            if not 1 / _KEEP_ANEW < one.period / one.kept < _KEEP_ANEW:
                self._unkept.add(device)
            self._expect(one)

    def _bounded(self, period: float) -> float:
        return max(self._config.shortest_period_s, min(period, self._config.longest_period_s))

    def _limit(self, one: _Watched) -> float:
        return one.heard + 2 * one.period + SLACK_S

    def _expect(self, one: _Watched) -> None:
        self._none_before = min(self._none_before, self._limit(one))
