"""The table of alarms: an emergency finding becomes an alarm with a beginning and an end.

An alarm belongs to a patient and a rule (a technical one to a device: see
:mod:`gateway.vitals.technical`): what two devices of a patient find by one rule is one
alarm. It is raised by the record that first shows the finding, whose id becomes the alarm's, and
resolved by the first later record of that patient without it.

This is the first cut. Latching, acknowledgement, pauses and escalation (IEC 60601-1-8) will come
between the end of the condition and the end of the alarm: here, in :meth:`Alarms.update`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.vitals.assessment import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.vitals.assessment import Assessment


class Alarm(NamedTuple):
    """One alarm, from the record that raised it to its end."""

    id: bytes
    """Of the record that raised it. One record can raise alarms of several rules; see ``key``."""

    patient: str
    device: str
    """Whose record raised it."""

    rule: str
    priority: Priority
    detail: str
    raised: float
    """UTC seconds, gateway's clock."""

    resolved: float | None
    """UTC seconds; None while the condition holds."""

    @property
    def key(self) -> bytes:
        """What tells this alarm from all others."""
        return self.id + self.rule.encode()


class Alarms:
    """Active alarms. The cap is of alarms, not of patients: the oldest makes room."""

    def __init__(self, max_active: int = 10_000) -> None:
        self._max_active = max_active
        self._active: dict[str, dict[str, Alarm]] = {}
        self._count = 0

    def update(
        self, patient: str, device: str, assessment: Assessment, *, record_id: bytes, wall: float
    ) -> list[Alarm]:
        """The alarms that this record raises, resolves or, at the cap, pushes out."""
        active = self._active.get(patient)
        if active is None and assessment.priority is not Priority.EMERGENCY:
            return []
        emergencies = {
            finding.rule: finding
            for finding in assessment.findings
            if finding.priority is Priority.EMERGENCY
        }
        over = [rule for rule in active or () if rule not in emergencies]
        changed = [self._remove(patient, rule)._replace(resolved=wall) for rule in over]
        for rule, finding in emergencies.items():
            if active is None or rule not in active:
                alarm = Alarm(
                    record_id,
                    patient,
                    device,
                    rule,
                    finding.priority,
                    finding.detail,
                    wall,
                    None,
                )
                changed += self.add(alarm)
        return changed

    def add(self, alarm: Alarm) -> list[Alarm]:
        """The alarms that change because of one that says nothing of the patient's others."""
        if alarm.rule in self._active.get(alarm.patient, ()):
            return []
        evicted = self._add(alarm)
        if evicted is None:
            return [alarm]
        return [evicted._replace(resolved=alarm.raised), alarm]

    def resolve(self, patient: str, rule: str, wall: float) -> list[Alarm]:
        """The alarm that is over, if there was one."""
        if rule not in self._active.get(patient, ()):
            return []
        return [self._remove(patient, rule)._replace(resolved=wall)]

    def active(self) -> list[Alarm]:
        """Those whose condition holds, oldest first."""
        return sorted(
            (alarm for alarms in self._active.values() for alarm in alarms.values()),
            key=lambda alarm: alarm.raised,
        )

    def restore(self, alarms: Iterable[Alarm]) -> None:
        """Take over what was active before a restart; resolved alarms are passed over."""
        for alarm in alarms:
            if alarm.resolved is None:
                self._add(alarm)

    def _add(self, alarm: Alarm) -> Alarm | None:
        """The alarm that had to make room, if one had to."""
        evicted = None
        if alarm.rule not in self._active.get(alarm.patient, ()):
            if self._count >= self._max_active:
                oldest = self.active()[0]
                evicted = self._remove(oldest.patient, oldest.rule)
            self._count += 1
        self._active.setdefault(alarm.patient, {})[alarm.rule] = alarm
        return evicted

    def _remove(self, patient: str, rule: str) -> Alarm:
        alarm = self._active[patient].pop(rule)
        self._count -= 1
        if not self._active[patient]:
            del self._active[patient]
        return alarm
