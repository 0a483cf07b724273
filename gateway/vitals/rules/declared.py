"""The node itself calls this pack an emergency, by posting it to ``/alarm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.rules import rules

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """No settings."""


class Declared:
    """No second opinion: a fall button knows more than any rule here."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ()

    def __init__(self, config: Limits) -> None:
        pass

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency for this pack."""
        if not stream.declared:
            return None
        return Finding(NAME, Priority.EMERGENCY, "declared by the device", patient.wall)


rules.register(NAME)(Declared)
