"""What the intake needs to know of a device: its patient, the pseudonym, and who may read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import ConfigError
from gateway.lane import Lane
from gateway.roster import secret

if TYPE_CHECKING:
    from gateway.cose.keys import PublicKey
    from gateway.roster.devices import Devices
    from gateway.roster.recipients import Recipients

_CACHED: Final = 8192


class Assignment(NamedTuple):
    """One device on one patient, as of the last refresh."""

    patient: str
    pseudonym: bytes
    """16 bytes: what the cloud store sees instead of the patient."""
    lenient_units: bool
    added: str
    """When the device was entered: one that comes back under its old name is another."""
    readers: dict[Lane, tuple[PublicKey, ...]]


class Ward:
    """Devices and recipients together.

    pseudonym_key: see :func:`gateway.roster.secret.pseudonym_key`.
    """

    def __init__(self, devices: Devices, recipients: Recipients, pseudonym_key: bytes) -> None:
        self.devices = devices
        self.recipients = recipients
        self._key = pseudonym_key
        self._assignments: dict[str, Assignment] = {}

    def refresh(self) -> bool:
        """Take in what the command line has changed; whether there was anything.

        Raises ConfigError for a roster that cannot be read: that one stays as it was, the other
        is taken in all the same, so that a device can be revoked whatever became of the readers.
        """
        changed, problems = False, []
        for roster in (self.devices, self.recipients):
            try:
                changed = roster.refresh() or changed
            except ConfigError as error:
                problems += error.problems
        if changed:
            self._assignments.clear()
        if problems:
            raise ConfigError(problems)
        return changed

    def is_current(self, device: str, patient: str, added: str) -> bool:
        """Whether it is still the device that was entered then, on this patient."""
        entry = self.devices.get(device)
        if entry is None or entry.revoked is not None:
            return False
        return (entry.patient, entry.added) == (patient, added)

    def assignment(self, device: str) -> Assignment | None:
        """None for a device that is unknown or revoked."""
        found = self._assignments.get(device)
        if found is not None:
            return found
        entry = self.devices.get(device)
        if entry is None or entry.revoked is not None:
            return None
        if len(self._assignments) >= _CACHED:
            self._assignments.clear()
        pseudonym = secret.pseudonym(self._key, entry.patient)
        readers = {lane: self.recipients.readers(entry.patient, lane) for lane in Lane}
        made = Assignment(entry.patient, pseudonym, entry.lenient_units, entry.added, readers)
        self._assignments[device] = made
        return made
