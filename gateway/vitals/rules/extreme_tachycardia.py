"""Extreme tachycardia: heart rate above 140 for 17 consecutive beats (CinC 2015).

Strict reading: each of the 17 RR intervals is shorter than 60/140 s. From RR alone this is also
how ventricular tachycardia shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.rules import rules
from gateway.vitals.run import Run

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "extreme_tachycardia"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits."""

    rate: float = 140.0
    """Beats per minute, above."""

    beats: int = 17
    """Consecutive beats."""

    clear_rate: float = 130.0
    """Over when as many beats are at most this fast."""


class ExtremeTachycardia:
    """Raised by the beat that completes the run."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ("_config", "_run")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._run = Run(config.beats, 60.0 / config.rate, 60.0 / config.clear_rate, short=True)

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency while the run lasts."""
        if not self._run.update(stream):
            return None
        config = self._config
        return Finding(
            NAME,
            Priority.EMERGENCY,
            f"heart rate above {config.rate:g}/min for {config.beats} beats",
            self._run.since + stream.offset,
        )


rules.register(NAME)(ExtremeTachycardia)
