"""The device registry."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE, DOCTOR, Profile
from gateway.dtls.credentials import PreSharedKey, Refusal
from gateway.errors import ConfigError, UsageError
from gateway.roster.devices import Device, Devices, new_device

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

TODAY = "2026-11-21T05:00:00Z"


def device(name: str = "bracelet-1", key: bytes | None = b"sixteen bytes ok") -> Device:
    return new_device(name, patient="P1", key=key, lenient_units=False, today=TODAY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "devices.json"


def test_a_device_is_known_by_its_identity(path: Path) -> None:
    devices = Devices(path)
    devices.add(device())
    assert devices.psk(b"bracelet-1") == PreSharedKey("bracelet-1", b"sixteen bytes ok")
    assert devices.get("bracelet-1") == device()
    assert Devices(path).all() == [device()]


@pytest.mark.parametrize(
    "identity", [b"", b"bracelet-2", b"BRACELET-1", b"\xff\x00", b"bracelet-1\0"]
)
def test_another_identity_has_no_key(path: Path, identity: bytes) -> None:
    devices = Devices(path)
    devices.add(device())
    assert devices.psk(identity) is None


def test_a_revoked_device_gets_no_key_and_stays_known(path: Path) -> None:
    devices = Devices(path)
    devices.add(device())
    assert devices.revoke("bracelet-1", today="2027").revoked == "2027"
    assert devices.psk(b"bracelet-1") is None
    assert devices.get("bracelet-1") is not None
    assert devices.revoke("bracelet-1", today="2028").revoked == "2027"  # the first time counts
    assert Devices(path).psk(b"bracelet-1") is None


def test_a_revoked_device_may_come_back_with_a_new_key(path: Path) -> None:
    devices = Devices(path)
    devices.add(device())
    devices.revoke("bracelet-1", today=TODAY)
    devices.add(device(key=b"another key"))
    assert devices.psk(b"bracelet-1") == PreSharedKey("bracelet-1", b"another key")


def test_a_name_is_given_once(path: Path) -> None:
    """All of a list are entered, or none."""
    devices = Devices(path)
    devices.add(device())
    with pytest.raises(UsageError, match=r"'bracelet-1' is there already; .* revoke bracelet-1"):
        devices.add(device("bracelet-2"), device(key=b"other"))
    assert [one.id for one in devices.all()] == ["bracelet-1"]
    assert devices.psk(b"bracelet-1") == PreSharedKey("bracelet-1", b"sixteen bytes ok")


AUTHORITY = Authority.passing("Ward 7", wall=1_793_000_000.0)


def certificate(name: str = "bracelet-1", kind: Profile = DEVICE) -> x509.Certificate:
    return AUTHORITY.issue(kind, name, files.generate().public_key(), wall=1_793_000_000.0)


def test_a_device_is_known_by_its_certificate_instead_of_a_key(path: Path) -> None:
    devices, shown = Devices(path), certificate()
    devices.add(device().certified(shown))
    for one in (devices, Devices(path)):
        assert one.bearer(shown) == "bracelet-1"
        assert one.psk(b"bracelet-1") is None
    found = devices.get("bracelet-1")
    assert found is not None
    assert found.expires == "2028-10-25T07:33:20Z"
    assert found.key == b""


def test_another_certificate_of_the_same_name_is_an_old_one(path: Path) -> None:
    devices, old, new = Devices(path), certificate(), certificate()
    devices.add(device().certified(old))
    devices.revoke("bracelet-1", today=TODAY)
    assert devices.bearer(old) is Refusal.WITHDRAWN
    devices.add(device().certified(new))
    assert devices.bearer(old) is Refusal.WITHDRAWN
    assert devices.bearer(new) == "bracelet-1"


def test_a_certificate_of_a_device_that_nobody_entered_is_no_way_in(path: Path) -> None:
    """Also not that of a device which is known by a key."""
    devices = Devices(path)
    devices.add(device())
    assert devices.bearer(certificate()) is Refusal.WITHDRAWN
    assert devices.bearer(certificate("nobody")) is Refusal.WITHDRAWN


def test_a_person_is_no_device(path: Path) -> None:
    devices = Devices(path)
    devices.add(device("doctor").certified(certificate("doctor")))
    assert devices.bearer(certificate("doctor", DOCTOR)) is Refusal.WRONG_ROLE


def test_certificates_end_in_their_order(path: Path) -> None:
    devices = Devices(path)
    devices.add(device("keyed"))
    for name, days in (("late", 30), ("soon", 10), ("gone", 5)):
        shown = AUTHORITY.issue(
            DEVICE, name, files.generate().public_key(), wall=1_793_000_000.0, days=days
        )
        devices.add(device(name).certified(shown))
    devices.revoke("gone", today=TODAY)
    late, soon = ("2026-11-25T07:33:20Z", "late"), ("2026-11-05T07:33:20Z", "soon")
    assert devices.expiring("9999") == [soon, late]
    assert devices.expiring(late[0]) == [soon]  # its last second counts
    assert Devices(path).expiring(soon[0]) == []


def test_a_name_is_asked_for_before_anything_is_made(path: Path) -> None:
    devices = Devices(path)
    devices.check_new("bracelet-1")
    devices.add(device())
    with pytest.raises(UsageError, match="is there already"):
        devices.check_new("bracelet-1")
    devices.revoke("bracelet-1", today=TODAY)
    devices.check_new("bracelet-1")


def test_what_another_program_changed_is_seen_after_refresh(path: Path) -> None:
    ours, theirs = Devices(path), Devices(path)
    assert not ours.refresh()
    theirs.add(device())
    assert ours.get("bracelet-1") is None
    assert ours.refresh()
    assert ours.get("bracelet-1") is not None
    assert not ours.refresh()
    theirs.revoke("bracelet-1", today=TODAY)
    assert ours.refresh()
    assert ours.psk(b"bracelet-1") is None


def test_two_programs_add_without_knowing_of_each_other(path: Path) -> None:
    ours, theirs = Devices(path), Devices(path)
    theirs.add(device("b"))
    ours.add(device("a"))
    assert [one.id for one in ours.all()] == ["a", "b"]
    with pytest.raises(UsageError):
        theirs.add(device("a"))


def test_devices_are_listed_by_id(path: Path) -> None:
    devices = Devices(path)
    devices.add(device("c"), device("a"), device("b"))
    assert [one.id for one in devices.all()] == ["a", "b", "c"]


def test_an_unknown_device_cannot_be_revoked(path: Path) -> None:
    with pytest.raises(UsageError, match="no device 'x'; `ward-gateway device list`"):
        Devices(path).revoke("x", today=TODAY)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"patient": "P", "key_hex": "zz", "lenient_units": False, "added": "", "revoked": None},
        {"patient": "P", "key_hex": "", "lenient_units": False, "added": "", "revoked": None},
        {
            "patient": "P",
            "key_hex": "00",
            "lenient_units": False,
            "added": "",
            "revoked": None,
            "x": 1,
        },
        {"patient": "", "key_hex": "00", "lenient_units": False, "added": "", "revoked": None},
        {
            "patient": "P",
            "key_hex": "00",
            "lenient_units": False,
            "added": "",
            "revoked": None,
            "fingerprint": "00",
            "expires": TODAY,
        },
        {
            "patient": "P",
            "key_hex": "",
            "lenient_units": False,
            "added": "",
            "revoked": None,
            "fingerprint": "00",
            "expires": None,
        },
    ],
)
def test_an_entry_that_cannot_be_understood_is_a_problem_of_the_file(
    path: Path, entry: dict[str, object]
) -> None:
    """Found when it is read, not in the middle of a handshake; what was known stays."""
    devices = Devices(path)
    devices.add(device())
    content = json.loads(path.read_text())
    content["entries"]["broken"] = entry
    path.with_suffix(".other").write_text(json.dumps(content))
    path.with_suffix(".other").replace(path)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"devices\.json: device 'broken' cannot be"):
            devices.refresh()
    assert devices.psk(b"bracelet-1") is not None


def test_a_new_key_is_16_printable_characters_and_never_the_same() -> None:
    """coap-client takes text, tinydtls holds 16 bytes."""
    keys = {device(f"d{number}", None).key_text for number in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch("[A-Za-z0-9]{16}", key or "")


def test_a_key_that_is_no_text_has_no_text() -> None:
    assert device(key=b"\x00" * 16).key_text is None
    assert device(key=b"with space").key_text is None
    assert device(key=b"~plain!").key_text == "~plain!"


def test_a_device_without_a_patient_measures_itself() -> None:
    found = new_device("b-1", patient=None, key=None, lenient_units=True, today=TODAY)
    assert (found.patient, found.lenient_units, found.added) == ("b-1", True, TODAY)


@pytest.mark.parametrize("name", ["", "a" * 33, "-a", "a b", "a/b", "a:b", "ä", "a\n", ".a"])
def test_a_name_that_would_not_do_is_refused(name: str) -> None:
    """No slash or colon: they part a device from its measurement in SenML names."""
    with pytest.raises(UsageError, match="device id"):
        device(name)


@pytest.mark.parametrize("patient", ["", "x" * 65, "a\nb", "a\x1b[2J"])
def test_a_patient_that_would_not_do_is_refused(patient: str) -> None:
    with pytest.raises(UsageError, match="patient"):
        new_device("a", patient=patient, key=None, lenient_units=False, today=TODAY)


@pytest.mark.parametrize(("size", "fine"), [(0, False), (1, True), (64, True), (65, False)])
def test_a_key_has_1_to_64_bytes(size: int, fine: bool) -> None:
    if fine:
        assert device(key=b"k" * size).key == b"k" * size
    else:
        with pytest.raises(UsageError, match=f"this one {size}"):
            device(key=b"k" * size)
