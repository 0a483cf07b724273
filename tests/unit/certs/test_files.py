from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519

from certs import files
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from certs.authority import Authority


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, authority: Authority) -> None:
    files.write_private(tmp_path / "a.key", files.generate())
    files.write_certificate(tmp_path / "a.pem", authority.certificate)
    assert mode_of(tmp_path / "a.key") == 0o600
    assert mode_of(tmp_path / "a.pem") == 0o644


def test_round_trip(tmp_path: Path, authority: Authority) -> None:
    key, sealing = files.generate(), x25519.X25519PrivateKey.generate()
    files.write_private(tmp_path / "a.key", key)
    files.write_private(tmp_path / "b.key", sealing)
    files.write_certificate(tmp_path / "a.pem", authority.certificate)
    assert files.load_private(tmp_path / "a.key").private_numbers() == key.private_numbers()
    assert isinstance(files.load_sealing(tmp_path / "a.key"), ec.EllipticCurvePrivateKey)
    found = files.load_sealing(tmp_path / "b.key")
    assert found.public_key() == sealing.public_key()
    assert files.load_certificate(tmp_path / "a.pem") == authority.certificate
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.key", "a.pem", "b.key"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Neither a file nor what a link points at; nothing is left lying about."""
    path = tmp_path / "a.key"
    files.write_private(path, files.generate())
    before = path.read_bytes()
    (tmp_path / "link.key").symlink_to(tmp_path / "elsewhere")
    for existing in (path, tmp_path / "link.key"):
        with pytest.raises(ConfigError, match="there is a key already"):
            files.write_private(existing, files.generate())
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.key", "link.key"]


def test_a_certificate_is_replaced(tmp_path: Path, authority: Authority) -> None:
    path = tmp_path / "a.pem"
    path.write_text("old")
    files.write_certificate(path, authority.certificate)
    assert files.load_certificate(path) == authority.certificate


def test_a_missing_folder_is_named(tmp_path: Path, authority: Authority) -> None:
    path = tmp_path / "missing" / "a"
    for write in (
        lambda: files.write_private(path, files.generate()),
        lambda: files.write_certificate(path, authority.certificate),
    ):
        with pytest.raises(ConfigError, match=r"missing/a: cannot be written: No such file"):
            write()


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o666, 0o601])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    files.write_private(path, files.generate())
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        files.load_private(path)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_a_key_may_be_shared_with_a_group(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    files.write_private(path, files.generate())
    path.chmod(mode)
    files.load_private(path)


def write_pem(path: Path, key: PrivateKeyTypes, password: bytes | None = None) -> None:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.write_bytes(encoded)
    path.chmod(0o600)


def test_other_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_pem(path, ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ConfigError, match="P-256"):
        files.load_sealing(path)
    write_pem(path, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(ConfigError, match="P-256"):
        files.load_sealing(path)
    write_pem(path, x25519.X25519PrivateKey.generate())
    with pytest.raises(ConfigError, match="cannot sign"):
        files.load_private(path)
    write_pem(path, files.generate(), password=b"secret")
    with pytest.raises(ConfigError, match="password"):
        files.load_private(path)


def test_what_is_not_pem_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch(mode=0o600)
    for text in ("", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not a private key"):
            files.load_private(path)
        with pytest.raises(ConfigError, match="not a certificate"):
            files.load_certificate(path)
    for load in (files.load_private, files.load_certificate):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / "missing")
