"""Sensor off the skin: what the other rules do not judge meanwhile must not be lost silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.rules import rules

if TYPE_CHECKING:
    from gateway.vitals.patient import Patient, Stream

NAME = "contact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """No settings."""


class Contact:
    """Technical: it says that nothing is known, not that the patient is well or ill."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = False

    __slots__ = ("_since",)

    def __init__(self, config: Limits) -> None:
        self._since: float | None = None

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Holds until the node says that the sensor is on again."""
        if stream.contact is not False:
            self._since = None
            return None
        if self._since is None:
            self._since = patient.wall
        return Finding(NAME, Priority.TECHNICAL, "sensor off the skin", self._since)


rules.register(NAME)(Contact)
