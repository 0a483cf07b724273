"""Our certificates as the openssl program sees them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from certs import files, profiles
from certs.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from certs.profiles import Profile

WALL = 1_793_000_000.0
KID_URI = "urn:ietf:params:oauth:ckt:sha-256:" + "A" * 43

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def openssl(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate of each profile, named after its role."""
    folder = tmp_path_factory.mktemp("ward")
    authority = Authority.create(folder, "Ward 7", wall=WALL)
    for profile in profiles.PROFILES.values():
        key = files.generate()
        certificate = authority.issue(
            profile,
            f"the {profile.role}",
            key.public_key(),
            wall=WALL,
            hosts=("localhost", "127.0.0.1") if profile.hosts else (),
            kid_uri=KID_URI if profile in profiles.RECIPIENTS else None,
        )
        files.write_private(folder / f"{profile.role}.key", key)
        files.write_certificate(folder / f"{profile.role}.pem", certificate)
    return folder


def verify(folder: Path, role: str, *options: object) -> bool:
    options = ("-x509_strict", "-attime", int(WALL), "-CAfile", folder / "ca.pem", *options)
    return openssl("verify", *options, folder / f"{role}.pem").returncode == 0


ALL = pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=profiles.PROFILES)


@ALL
def test_every_certificate_is_good_for_its_purposes_only(folder: Path, profile: Profile) -> None:
    for purpose, usage in (
        ("sslclient", profiles.GATEWAY.usages[0]),
        ("sslserver", profiles.GATEWAY.usages[1]),
    ):
        assert verify(folder, profile.role, "-purpose", purpose) == (usage in profile.usages)
    assert not verify(folder, profile.role, "-purpose", "smimesign")


@ALL
def test_every_certificate_ends(folder: Path, profile: Profile) -> None:
    late = int(WALL) + profile.days * 86_400 + 1
    assert verify(folder, profile.role)
    assert not verify(folder, profile.role, "-attime", late)


def test_servers_are_known_by_their_addresses(folder: Path) -> None:
    assert verify(folder, "cloud-store", "-verify_hostname", "localhost")
    assert verify(folder, "cloud-store", "-verify_ip", "127.0.0.1")
    assert not verify(folder, "cloud-store", "-verify_hostname", "elsewhere.example")


def test_a_bearer_cannot_issue(folder: Path) -> None:
    """A certificate that a doctor's key signed is not accepted below the ward's authority."""
    made = openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=mallory", "-keyout", folder / "mallory.key", "-out", folder / "m.csr"),
    )
    assert made.returncode == 0, made.stderr
    signed = openssl(
        *("x509", "-req", "-in", folder / "m.csr", "-out", folder / "mallory.pem"),
        *("-CA", folder / "doctor.pem", "-CAkey", folder / "doctor.key", "-CAcreateserial"),
    )
    assert signed.returncode == 0, signed.stderr
    assert not verify(folder, "mallory", "-untrusted", folder / "doctor.pem")


def test_the_text_shows_role_and_sealing_key(folder: Path) -> None:
    text = openssl("x509", "-in", folder / "doctor.pem", "-noout", "-text").stdout
    for words in (
        "Subject: O = Ward 7, OU = doctor, CN = the doctor",
        "Issuer: O = Ward 7, OU = ca, CN = Ward 7 CA",
        f"URI:{KID_URI}",
        "Signature Algorithm: ecdsa-with-SHA256",
        "ASN1 OID: prime256v1",
        "TLS Web Client Authentication",
        "CA:FALSE",
    ):
        assert words.replace(" = ", "=") in text.replace(" = ", "=")
    assert "TLS Web Server Authentication" not in text


def test_keys_belong_to_their_certificates(folder: Path) -> None:
    """The PEM files are what other programs expect."""
    key = openssl("pkey", "-in", folder / "gateway.key", "-pubout").stdout
    certificate = openssl("x509", "-in", folder / "gateway.pem", "-noout", "-pubkey").stdout
    assert key == certificate != ""
    assert "BEGIN PRIVATE KEY" in (folder / "gateway.key").read_text()


def test_a_request_of_openssl_is_signed(folder: Path) -> None:
    made = openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=ignored", "-keyout", folder / "bob.key", "-out", folder / "bob.csr"),
    )
    assert made.returncode == 0, made.stderr
    certificate = Authority.load(folder).sign_request(
        profiles.DOCTOR, "bob", (folder / "bob.csr").read_bytes(), wall=WALL
    )
    files.write_certificate(folder / "bob.pem", certificate)
    assert verify(folder, "bob", "-purpose", "sslclient")
