"""The node's own verdict on the rhythm, from the waveform that only it sees.

Ventricular tachycardia and fibrillation cannot be told from RR intervals, so ``VT`` and ``VF`` are
believed at once, as is ``ASYS``. Atrial fibrillation is no emergency in itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.rules import rules

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "verdict"

VERDICTS = {
    "VF": (Priority.EMERGENCY, "ventricular fibrillation"),
    "ASYS": (Priority.EMERGENCY, "asystole"),
    "VT": (Priority.EMERGENCY, "ventricular tachycardia"),
    "AFIB": (Priority.ADVISORY, "atrial fibrillation"),
}
"""What needs a person, from the worst down; every other verdict needs none."""

_ORDER = {rhythm: place for place, rhythm in enumerate(VERDICTS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a verdict holds."""

    max_age_s: float = 60.0
    """A node that says nothing more of the rhythm has stopped looking."""


class Verdict:
    """The worst verdict of a pack counts for it; the last one holds after it."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ("_config", "_heard_at", "_rhythm", "_since")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._rhythm = ""
        self._since = 0.0
        self._heard_at = 0.0

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Holds until the node gives another verdict, or none for a minute."""
        worst = self._rhythm
        since = self._since
        if stream.rhythms:
            worst = min(stream.rhythms, key=lambda rhythm: _ORDER.get(rhythm, len(_ORDER)))
            if worst != self._rhythm:
                since = patient.wall
            if not stream.late:
                self._rhythm = stream.rhythms[-1]
                self._since = since
                self._heard_at = patient.now
        elif worst and patient.now - self._heard_at > self._config.max_age_s:
            worst = self._rhythm = ""
        if worst not in VERDICTS:
            return None
        priority, words = VERDICTS[worst]
        return Finding(NAME, priority, f"the device sees {words} ({worst})", since)


rules.register(NAME)(Verdict)
