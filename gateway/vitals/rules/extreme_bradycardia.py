"""Extreme bradycardia: heart rate below 40 for 5 consecutive beats (CinC 2015).

Strict reading: each of the 5 RR intervals is longer than 1.5 s. The reading by the mean rate finds
more, most of it sinus bradycardia with pauses that nobody is woken for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.rules import rules
from gateway.vitals.run import Run

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "extreme_bradycardia"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits."""

    rate: float = 40.0
    """Beats per minute, below."""

    beats: int = 5
    """Consecutive beats."""

    clear_rate: float = 45.0
    """Over when as many beats are at least this fast."""


class ExtremeBradycardia:
    """Raised by the beat that completes the run."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ("_config", "_run")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._run = Run(config.beats, 60.0 / config.rate, 60.0 / config.clear_rate)

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency while the run lasts."""
        if not self._run.update(stream):
            return None
        config = self._config
        return Finding(
            NAME,
            Priority.EMERGENCY,
            f"heart rate below {config.rate:g}/min for {config.beats} beats",
            self._run.since + stream.offset,
        )


rules.register(NAME)(ExtremeBradycardia)
