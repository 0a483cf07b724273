"""Who may read what."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.profiles import RECIPIENTS
from cloud import config as cloud_config
from gateway.cose.keys import thumbprint
from gateway.errors import ConfigError, UsageError
from gateway.lane import LANES_OF_ROLE, Lane
from gateway.roster.recipients import Recipients

E, R = Lane.EMERGENCY, Lane.ROUTINE
TODAY = "2026-11-21T05:00:00Z"


def pem(key: object | None = None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(  # type: ignore[attr-defined]
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return str(public, "ascii")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipients.json"


@pytest.fixture
def recipients(path: Path) -> Recipients:
    return Recipients(path)


def add(recipients: Recipients, name: str, role: str, *patients: str, key: str = "") -> None:
    recipients.add(name, role=role, patients=patients, public_key=key or pem(), today=TODAY)


@pytest.mark.parametrize(
    ("role", "patients", "reads"),
    [
        ("patient", (), set()),
        ("patient", ("P1",), {("P1", E), ("P1", R)}),
        ("doctor", (), {("P1", R), ("P2", R)}),
        ("doctor", ("P2",), {("P2", R)}),
        ("alarm-centre", (), {("P1", E), ("P2", E)}),
        ("alarm-centre", ("P1", "P2"), {("P1", E), ("P2", E)}),
        ("admin", ("P1",), set()),
        ("admin", (), set()),
        ("auditor", (), set()),
    ],
)
def test_who_reads_which_lane_of_whom(
    recipients: Recipients, role: str, patients: tuple[str, ...], reads: set[tuple[str, Lane]]
) -> None:
    """As in the contract: patient everything of their own, doctor routine, alarm-centre
    emergencies, the others nothing."""
    add(recipients, "somebody", role, *patients)
    found = {pair for pair in product(("P1", "P2"), Lane) if recipients.readers(*pair)}
    assert found == reads


def test_roles_are_the_same_wherever_they_are_named() -> None:
    """In the roster, in the certificates and in the cloud store."""
    example = Path(__file__).parents[3] / "configs" / "cloud.toml"
    assert list(LANES_OF_ROLE) == [profile.role for profile in RECIPIENTS]
    assert cloud_config.load(example).roles == LANES_OF_ROLE


def test_readers_are_keys_by_name(recipients: Recipients, path: Path) -> None:
    """P-256 or X25519, in an order that does not change: epochs compare it."""
    keys = {"b": ec.generate_private_key(ec.SECP256R1()), "a": x25519.X25519PrivateKey.generate()}
    for name, key in keys.items():
        add(recipients, name, "doctor", key=pem(key))
    for one in (recipients, Recipients(path)):
        found = [thumbprint(key) for key in one.readers("P1", R)]
        assert found == [thumbprint(keys[name].public_key()) for name in ("a", "b")]


def test_a_revoked_recipient_reads_nothing(recipients: Recipients, path: Path) -> None:
    add(recipients, "anna", "doctor")
    _edit(path, "anna", revoked=TODAY)
    assert recipients.readers("P1", R)
    assert recipients.refresh()
    assert recipients.readers("P1", R) == ()
    assert recipients.active("anna") is None
    add(recipients, "anna", "doctor")  # the name is free again
    assert recipients.active("anna") is not None


def test_a_name_is_given_once_also_by_two_programs(recipients: Recipients, path: Path) -> None:
    other = Recipients(path)
    key = pem()
    add(recipients, "anna", "doctor", key=key)
    with pytest.raises(UsageError, match="'anna' is there already"):
        add(recipients, "anna", "admin")
    # `other` has not looked at the file since, and still must not overwrite.
    with pytest.raises(UsageError, match="'anna' is there already"):
        add(other, "anna", "alarm-centre")
    found = Recipients(path).active("anna")
    assert found is not None
    assert (found.role, found.public_key) == ("doctor", key)


def test_a_reader_can_be_let_read_more_patients(recipients: Recipients, path: Path) -> None:
    add(recipients, "P1", "patient")
    recipients.widen("P1", ("P2", "P1"))
    assert recipients.widen("P1", ("P3",)).patients == ("P1", "P2", "P3")
    assert Recipients(path).readers("P3", E)
    with pytest.raises(UsageError, match="no recipient 'nobody'"):
        recipients.widen("nobody", ("P1",))


def test_who_reads_everybody_is_not_narrowed_by_one_more(recipients: Recipients) -> None:
    add(recipients, "anna", "doctor")
    assert recipients.widen("anna", ("P1",)).patients == ()
    assert recipients.readers("P2", R)


def test_a_revoked_recipient_is_not_widened(recipients: Recipients, path: Path) -> None:
    add(recipients, "P1", "patient", "P1")
    _edit(path, "P1", revoked=TODAY)
    with pytest.raises(UsageError, match="no recipient 'P1'"):
        recipients.widen("P1", ("P2",))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "x" * 65, "a\n"])
def test_a_name_that_would_not_do_is_refused(recipients: Recipients, name: str) -> None:
    """It becomes a folder."""
    with pytest.raises(UsageError, match="recipient name"):
        recipients.check_new(name, "doctor")


def test_an_unknown_role_is_answered_with_the_known_ones(recipients: Recipients) -> None:
    with pytest.raises(UsageError, match="no role 'nurse'; there are: patient, doctor, alarm"):
        recipients.check_new("anna", "nurse")


@pytest.mark.parametrize(
    "change",
    [
        {"role": "nurse"},
        {"patients": None},
        {"patients": 5},
        {"public_key": "no key"},
        {"public_key": 5},
        {"more": 1},
        pytest.param({"public_key": pem(rsa.generate_private_key(65537, 1024))}, id="RSA"),
        pytest.param({"public_key": pem(ec.generate_private_key(ec.SECP384R1()))}, id="P-384"),
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_understood_is_a_problem_of_the_file(
    recipients: Recipients, path: Path, change: dict[str, object]
) -> None:
    """Found when it is read, not when a record is to be sealed; what was known stays."""
    add(recipients, "anna", "doctor")
    add(recipients, "broken", "doctor")
    _edit(path, "broken", **change)
    for _ in range(2):
        with pytest.raises(ConfigError, match="recipient 'broken' cannot be understood"):
            recipients.refresh()
    assert len(recipients.readers("P1", R)) == 2
    with pytest.raises(ConfigError):
        Recipients(path)


def _edit(path: Path, name: str, **values: object) -> None:
    content = json.loads(path.read_text())
    content["entries"][name].update(values)
    path.with_suffix(".other").write_text(json.dumps(content))
    path.with_suffix(".other").replace(path)
