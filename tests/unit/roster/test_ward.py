"""What the intake needs to know of a device."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import ConfigError
from gateway.lane import Lane
from gateway.roster.devices import Devices, new_device
from gateway.roster.recipients import Recipients
from gateway.roster.ward import Ward

TODAY = "2026-11-21T05:00:00Z"
SECRET = b"s" * 32


class Rosters:
    """The gateway's ward and the command line's rosters on the same files."""

    def __init__(self, folder: Path) -> None:
        self.paths = folder / "devices.json", folder / "recipients.json"
        self.devices, self.recipients = Devices(self.paths[0]), Recipients(self.paths[1])
        self.ward = Ward(Devices(self.paths[0]), Recipients(self.paths[1]), SECRET)

    def device(self, name: str, patient: str | None = None, *, lenient: bool = False) -> None:
        self.devices.add(
            new_device(name, patient=patient, key=b"k", lenient_units=lenient, today=TODAY)
        )

    def recipient(self, name: str, role: str, *patients: str) -> None:
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.recipients.add(name, role=role, patients=patients, public_key=text, today=TODAY)


@pytest.fixture
def rosters(tmp_path: Path) -> Rosters:
    return Rosters(tmp_path)


def test_a_device_has_a_patient_and_that_patient_has_readers(rosters: Rosters) -> None:
    rosters.device("b1", "P1", lenient=True)
    rosters.recipient("doctor", "doctor")
    rosters.recipient("P1", "patient", "P1")
    rosters.recipient("P2", "patient", "P2")
    assert rosters.ward.refresh()
    found = rosters.ward.assignment("b1")
    assert found is not None
    assert (found.patient, found.lenient_units) == ("P1", True)
    assert len(found.readers[Lane.ROUTINE]) == 2
    assert len(found.readers[Lane.EMERGENCY]) == 1
    assert rosters.ward.assignment("b1") is found  # epochs compare the tuple of readers


def test_the_pseudonym_is_the_patients_and_needs_the_secret(rosters: Rosters) -> None:
    """Two devices of a patient share it; another ward's is another."""
    for device, patient in (("b1", "P1"), ("b2", "P1"), ("b3", "P2")):
        rosters.device(device, patient)
    rosters.ward.refresh()
    other = Ward(Devices(rosters.paths[0]), Recipients(rosters.paths[1]), b"t" * 32)
    found = [
        ward.assignment(device).pseudonym  # type: ignore[union-attr]
        for ward in (rosters.ward, other)
        for device in ("b1", "b2", "b3")
    ]
    assert found[0] == found[1]
    assert len({found[0], found[2], found[3], found[5]}) == 4
    assert {len(one) for one in found} == {16}
    assert b"P1" not in found[0]


def test_an_unknown_or_revoked_device_has_no_assignment(rosters: Rosters) -> None:
    rosters.device("b1")
    rosters.ward.refresh()
    assert rosters.ward.assignment("b2") is None
    assert rosters.ward.assignment("b1") is not None
    rosters.devices.revoke("b1", today=TODAY)
    assert rosters.ward.refresh()
    assert rosters.ward.assignment("b1") is None


def test_a_device_is_current_until_it_is_revoked_or_entered_anew(rosters: Rosters) -> None:
    rosters.device("b1", "P1")
    rosters.ward.refresh()
    current = rosters.ward.is_current
    assert current("b1", "P1", TODAY)
    assert not current("b1", "P2", TODAY)
    assert not current("b1", "P1", "2025-01-01T00:00:00Z")
    assert not current("b2", "P1", TODAY)
    rosters.devices.revoke("b1", today=TODAY)
    rosters.ward.refresh()
    assert not current("b1", "P1", TODAY)


def test_a_change_of_readers_counts_from_the_refresh_on(rosters: Rosters) -> None:
    rosters.device("b1", "P1")
    rosters.ward.refresh()
    before = rosters.ward.assignment("b1")
    assert before is not None
    assert before.readers[Lane.ROUTINE] == ()
    rosters.recipient("doctor", "doctor")
    assert rosters.ward.assignment("b1") is before
    assert rosters.ward.refresh()
    after = rosters.ward.assignment("b1")
    assert after is not None
    assert len(after.readers[Lane.ROUTINE]) == 1
    assert not rosters.ward.refresh()


def test_one_damaged_roster_does_not_keep_a_revoked_device_in(rosters: Rosters) -> None:
    rosters.device("b1", "P1")
    rosters.recipient("doctor", "doctor")
    rosters.ward.refresh()
    assert rosters.ward.assignment("b1") is not None
    rosters.devices.revoke("b1", today=TODAY)
    rosters.paths[1].write_text("{")
    with pytest.raises(ConfigError, match=r"recipients\.json"):
        rosters.ward.refresh()
    assert rosters.ward.assignment("b1") is None
    assert rosters.ward.devices.psk(b"b1") is None


def test_a_damaged_roster_of_devices_leaves_them_and_takes_in_the_readers(
    rosters: Rosters,
) -> None:
    rosters.device("b1", "P1")
    rosters.ward.refresh()
    rosters.recipient("doctor", "doctor")
    rosters.paths[0].write_text("{")
    with pytest.raises(ConfigError, match=r"devices\.json"):
        rosters.ward.refresh()
    found = rosters.ward.assignment("b1")
    assert found is not None
    assert len(found.readers[Lane.ROUTINE]) == 1


def test_more_devices_than_are_cached_are_still_assigned(rosters: Rosters) -> None:
    names = [f"b{number}" for number in range(8200)]
    rosters.devices.add(
        *(
            new_device(name, patient=None, key=b"k", lenient_units=False, today=TODAY)
            for name in names
        )
    )
    rosters.ward.refresh()
    found = [rosters.ward.assignment(name) for name in names]
    assert [one.patient for one in found if one is not None] == names
