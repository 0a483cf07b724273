"""Technical alarms: what is wrong with the equipment, not with a patient. Pure.

A table of its own, with a cap of its own, so that a ward whose radio has failed cannot push an
emergency out of the table of alarms, nor the other way round. Here an alarm belongs to a device and
a rule: two silent bracelets of one patient are two alarms. One of the gateway itself has the
gateway's name for a device and no patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.vitals.alarms import Alarm

SILENCE: Final = "silence"
"""Nothing is heard of the device: :mod:`gateway.vitals.silence`."""
UNREADABLE: Final = "unreadable"
"""The device's last pack was refused: nobody has judged what it measures."""
UNDELIVERABLE: Final = "undeliverable"
"""An emergency does not reach the cloud store."""
CLOCK: Final = "clock"
"""The gateway's date cannot be: :mod:`gateway.timekeeping`."""
RULES: Final = frozenset((SILENCE, UNREADABLE, UNDELIVERABLE, CLOCK))


class Technical:
    """Active ones. At the cap the oldest makes room."""

    def __init__(self, max_active: int = 10_000) -> None:
        self._max_active = max_active
        self._active: dict[tuple[str, str], Alarm] = {}

    def __len__(self) -> int:
        return len(self._active)

    def get(self, device: str, rule: str) -> Alarm | None:
        """The active alarm of a device by a rule."""
        return self._active.get((device, rule))

    def add(self, alarm: Alarm) -> list[Alarm]:
        """The alarms that have changed: none if its device has one by this rule already."""
        key = (alarm.device, alarm.rule)
        if key in self._active:
            return []
        changed = [alarm]
        if len(self._active) >= self._max_active:
            # Raised in this order, and never changed: the first is the oldest.
            oldest = self._active.pop(next(iter(self._active)))
            changed.insert(0, oldest._replace(resolved=alarm.raised))
        self._active[key] = alarm
        return changed

    def resolve(self, device: str, rule: str, wall: float) -> list[Alarm]:
        """The alarm that is over, if there was one."""
        alarm = self._active.pop((device, rule), None)
        return [] if alarm is None else [alarm._replace(resolved=wall)]

    def active(self) -> list[Alarm]:
        """Those whose condition holds."""
        return list(self._active.values())

    def restore(self, alarms: Iterable[Alarm]) -> None:
        """Take over what was active before a restart, oldest first."""
        for alarm in sorted(alarms, key=lambda one: one.raised):
            self.add(alarm)
