"""Asystole: no heartbeat for 4 s although the sensor is on the skin (CinC 2015: no QRS for 4 s).

It shows in two ways:

* as a *gap*: a beat whose RR interval is 4 s or longer. The node measured it itself, so it counts
  unless the sensor was off the skin or the signal poor meanwhile: lost leads must not be announced
  as asystole. A gap is judged even if its beat arrives late or again: a pack that could not be
  stored is sent a second time, and must be as urgent then. Only gaps before the last one are past.
* as *silence*: packs go on, say that the sensor is on the skin, and bring no beat for 4 s. Silence
  needs a node that sends beats, and packs without a break meanwhile (no packets is a technical
  matter). A heart rate above 0 in them counts as a sign of life only from a node that is not
  known to send its beats promptly: one that collects beats may send vitals between, but one that
  does not merely repeats its last average when the beats stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.patient import SAME_BEAT_S
from gateway.vitals.rules import rules

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "asystole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits."""

    seconds: float = 4.0
    """Without a beat, at least."""

    quality: float = 0.5
    """Signal quality below which a missing beat is no evidence (verify)."""


class Asystole:
    """Raised by the beat that ends a gap, or the first pack that shows 4 s of silence."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ("_config", "_last_gap")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._last_gap = float("-inf")
        """Node's time of the beat that ended the last gap judged."""

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency in the pack that ends a gap, and as long as silence lasts."""
        shortest = self._config.seconds
        for beats in (stream.late_beats, stream.beats):
            for time, rr in beats:
                if rr >= shortest and time > self._last_gap - SAME_BEAT_S:
                    self._last_gap = time
                    if not self._is_poor(stream, time - rr):
                        return self._finding(rr, time - rr + stream.offset)
        if stream.beats or stream.contact is not True or stream.last_beat is None:
            return None
        alive = max(stream.last_beat, stream.covered_from)
        if not stream.prompt:
            alive = max(alive, stream.pulse_at)
        silent = stream.newest - alive
        if silent < shortest or self._is_poor(stream, alive):
            return None
        return self._finding(silent, alive + stream.offset)

    def _is_poor(self, stream: Stream, since: float) -> bool:
        """Whether the sensor cannot have seen every beat since a time."""
        if stream.contact is False or stream.contact_off_at >= since:
            return True
        return stream.quality < self._config.quality and stream.quality_at >= since

    def _finding(self, seconds: float, since: float) -> Finding:
        return Finding(NAME, Priority.EMERGENCY, f"no heartbeat for {seconds:.1f} s", since)


rules.register(NAME)(Asystole)
