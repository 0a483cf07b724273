"""Making a ward."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from certs import files, verify
from certs.authority import Authority
from cloud import config as cloud_config
from gateway import provision
from gateway.config import loading
from gateway.cose.keys import thumbprint
from gateway.errors import ConfigError, ForbiddenError, UsageError
from gateway.lane import Lane
from gateway.provision import Ports, add_recipient, make_ward, today
from gateway.reader import profile
from gateway.roster.recipients import LANES_OF_ROLE, Recipients

WALL = time.time()


def make(folder: Path, **changes: object) -> Path:
    given: dict[str, object] = {
        "ward": "Ward 7",
        "cloud_url": None,
        "port_base": 20_000,
        "wall": WALL,
    }
    make_ward(folder, **(given | changes))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests that only look."""
    old = os.umask(0)
    try:
        return make(tmp_path_factory.mktemp("wards") / "ward")
    finally:
        os.umask(old)


def test_nobody_else_may_look_at_anything_secret(ward: Path) -> None:
    """Whatever the umask: folders 0700, and every file 0600 but for certificates."""
    seen = set()
    for one in (ward, *ward.rglob("*")):
        mode = stat.S_IMODE(one.stat().st_mode)
        if one.is_dir():
            assert mode == 0o700, one
        elif one.suffix == ".pem":
            assert mode == 0o644, one
            seen.add("certificate")
        elif one.name == "profile.toml":
            assert mode & 0o022 == 0 or one.parent.stat().st_mode & 0o077 == 0
        else:
            assert mode == 0o600, one
            seen.add(one.suffix or one.name)
    assert {"certificate", ".key", ".toml", ".json"} <= seen


def test_both_configurations_can_be_used_as_they_are(ward: Path) -> None:
    """And everything that they name is there."""
    loaded = loading.load(ward / "gateway.toml", {}).configuration
    assert loaded.gateway.ward == "Ward 7"
    assert loaded.coap.listen == ("0.0.0.0:20000", "[::]:20000")
    assert loaded.cloud.url == "https://127.0.0.1:20003"
    cloud = cloud_config.load(ward / "cloud.toml")
    assert cloud.address() == ("127.0.0.1", 20_003)
    assert cloud.database == "cloud/cloud.db"
    for path in (
        loaded.gateway.state,
        loaded.gateway.certificate,
        loaded.gateway.key,
        loaded.gateway.ca,
        cloud.certificate,
        cloud.key,
        cloud.ca,
        cloud.folder / "cloud",
    ):
        assert path.exists(), path
    assert len((loaded.gateway.state / "local.key").read_bytes()) == 32


@pytest.mark.parametrize(("name", "role"), [("gateway", "gateway"), ("cloud", "cloud-store")])
def test_the_certificates_are_of_the_wards_authority(ward: Path, name: str, role: str) -> None:
    certificate = files.load_certificate(ward / "keys" / f"{name}.pem")
    authority = files.load_certificate(ward / "ca" / "ca.pem")
    verify.issued_by(certificate, authority, wall=WALL)
    assert (verify.role_of(certificate), verify.name_of(certificate)) == (role, name)
    key = files.load_private(ward / "keys" / f"{name}.key")
    assert key.public_key() == certificate.public_key()


def test_another_wards_authority_is_not_believed(ward: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    certificate = files.load_certificate(other / "keys" / "gateway.pem")
    with pytest.raises(ForbiddenError):
        verify.issued_by(certificate, files.load_certificate(ward / "ca" / "ca.pem"), wall=WALL)
    secrets = [(one / "state" / "local.key").read_bytes() for one in (ward, other)]
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize("role", LANES_OF_ROLE)
def test_each_role_has_a_reader_whose_profile_fits_the_roster(ward: Path, role: str) -> None:
    """What the records are sealed for is the key in the profile, and the certificate names it."""
    found = profile.load(ward / "recipients" / role)
    assert (found.name, found.role, found.cloud) == (role, role, "https://127.0.0.1:20003")
    certificate = files.load_certificate(found.certificate)
    verify.issued_by(certificate, found.load_authority(), wall=WALL)
    assert (verify.role_of(certificate), verify.name_of(certificate)) == (role, role)
    kid = thumbprint(found.load_sealing_key().public_key())
    assert verify.kid_of(certificate) == kid
    entered = Recipients(ward / "state" / "recipients.json").active(role)
    assert entered is not None
    readers = Recipients(ward / "state" / "recipients.json").readers("P1", Lane.ROUTINE)
    assert (kid in [thumbprint(key) for key in readers]) is (role == "doctor")
    assert files.load_private(found.key).public_key() != found.load_sealing_key().public_key()


def test_a_further_recipient(tmp_path: Path) -> None:
    folder = make(tmp_path / "ward")
    recipients = Recipients(folder / "state" / "recipients.json")
    add_recipient(
        folder,
        recipients,
        "anna",
        role="doctor",
        patients=["P1"],
        cloud_url="https://cloud:1",
        wall=WALL,
    )
    assert len(recipients.readers("P1", Lane.ROUTINE)) == 2
    assert len(recipients.readers("P2", Lane.ROUTINE)) == 1
    assert profile.load(folder / "recipients" / "anna").cloud == "https://cloud:1"
    for name, role, words in (
        ("anna", "doctor", "there already"),
        ("../x", "doctor", "recipient name"),
        ("ben", "nurse", "no role"),
    ):
        with pytest.raises(UsageError, match=words):
            add_recipient(
                folder,
                recipients,
                name,
                role=role,
                patients=[],
                cloud_url="https://cloud:1",
                wall=WALL,
            )
    assert sorted(one.name for one in (folder / "recipients").iterdir()) == sorted(
        ["anna", *LANES_OF_ROLE]
    )


def test_without_an_authority_there_are_no_recipients(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.(pem|key)"):
        add_recipient(
            tmp_path,
            Recipients(tmp_path / "recipients.json"),
            "anna",
            role="doctor",
            patients=[],
            cloud_url="https://cloud",
            wall=WALL,
        )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        make(tmp_path)
    with pytest.raises(UsageError, match="is not empty"):
        make(tmp_path / "mine")
    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        make(tmp_path / "mine" / "ward")
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "precious"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    make(tmp_path)
    assert Authority.load(tmp_path / "ca").certificate


@pytest.mark.parametrize(
    "url",
    [
        "http://cloud",
        "cloud:9443",
        "https://",
        "https://:9443",
        "https://cloud:0",
        "https://cloud:99999",
        "https://cloud:x",
        "https://cloud/path",
        "https://cloud?x=1",
        "https://cloud#x",
        "https://user@cloud",
        "https://[::1",
        "https://bü cher",
        "",
    ],
)
def test_an_address_that_cannot_be_the_cloud_stores_is_refused(tmp_path: Path, url: str) -> None:
    """Before anything is made."""
    if url:
        with pytest.raises(UsageError):
            make(tmp_path / "ward", cloud_url=url)
        assert not (tmp_path / "ward").exists()
    else:
        make(tmp_path / "ward", cloud_url=url)  # as if it had not been said


@pytest.mark.parametrize(
    "url", ["https://cloud.example:8443/", "https://[2001:db8::1]", "https://localhost"]
)
def test_the_cloud_stores_certificate_is_for_its_address(tmp_path: Path, url: str) -> None:
    folder = make(tmp_path / "ward", cloud_url=url)
    configuration = loading.load(folder / "gateway.toml", {}).configuration
    assert configuration.cloud.url == url.rstrip("/")
    text = (folder / "keys" / "cloud.pem").read_bytes()
    assert text
    names = str(files.load_certificate(folder / "keys" / "cloud.pem").extensions)
    assert "localhost" in names
    assert url.removeprefix("https://").split(":8443")[0].strip("[]/") in names


@pytest.mark.parametrize("ward", ["", "x" * 61, "a\nb", "a\x7f"])
def test_a_name_of_a_ward_that_cannot_be(tmp_path: Path, ward: str) -> None:
    with pytest.raises(UsageError, match="--ward"):
        make(tmp_path / "ward", ward=ward)


def test_ports_are_the_usual_ones_or_four_in_a_row() -> None:
    assert Ports.of(None) == Ports(coaps=5684, console=8080, cloud=9443)
    assert Ports.of(20_000) == Ports(coaps=20_000, console=20_002, cloud=20_003)
    assert Ports.of(65_532).cloud == 65_535
    for base in (0, -1, 65_533):
        with pytest.raises(UsageError, match="--port-base"):
            Ports.of(base)


def test_today_is_iso_8601_in_utc() -> None:
    assert today(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert provision.LOCAL_KEY_BYTES == 32
