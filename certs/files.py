"""Keys and certificates as files: private ones 0600, written whole or not at all.

A file is written beside its place, flushed, and then put there in one step: by ``link`` for a key,
which fails if there is a file already, by ``rename`` for a certificate, which replaces it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SealingKey: TypeAlias = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey

_FOR_OTHERS = 0o027
"""Group and others may not write, others may not read. A group may: it is how services share."""


def generate() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def write_private(path: Path, key: SealingKey) -> None:
    """PKCS #8 PEM, mode 0600. Never overwrites. Raises ConfigError."""
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        _write(path, encoded, 0o600, os.link)
    except FileExistsError as exc:
        problem = f"{path}: there is a key already (move it away first, it is never overwritten)"
        raise ConfigError([problem]) from exc
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """PEM, mode 0644. Replaces what is there. Raises ConfigError."""
    try:
        _write(path, certificate.public_bytes(Encoding.PEM), 0o644, os.replace)
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """A P-256 key. Raises ConfigError, also if other users may read the file."""
    key = load_sealing(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError([f"{path}: an X25519 key cannot sign (a P-256 key is needed here)"])
    return key


def load_sealing(path: Path) -> SealingKey:
    """A reader's key: P-256 or X25519. Raises ConfigError as :func:`load_private`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            encoded = file.read()
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    if mode & _FOR_OTHERS:
        problem = f"{path}: others may use this private key, mode {mode:04o} (chmod 600 {path})"
        raise ConfigError([problem])
    try:
        key = load_pem_private_key(encoded, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it has a password
        problem = f"{path}: not a private key in PEM without a password ({exc})"
        raise ConfigError([problem]) from exc
    if isinstance(key, x25519.X25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ConfigError([f"{path}: the key must be on P-256 (openssl genpkey -algorithm EC ...)"])


def load_certificate(path: Path) -> x509.Certificate:
    """One PEM certificate. Raises ConfigError."""
    try:
        encoded = path.read_bytes()
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    try:
        return x509.load_pem_x509_certificate(encoded)
    except (ValueError, x509.InvalidVersion) as exc:
        raise ConfigError([f"{path}: not a certificate in PEM ({exc})"]) from exc


def load_pair(certificate: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and the key that belongs to it. Raises ConfigError."""
    loaded, private = load_certificate(certificate), load_private(key)
    if loaded.public_key() != private.public_key():
        problem = f"{certificate}: is not the certificate of {key} (restore both together)"
        raise ConfigError([problem])
    return loaded, private


def _write(path: Path, data: bytes, mode: int, put: Callable[[Path, Path], None]) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        put(aside, path)
        flush_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """The name of a file survives a power cut only when its folder was flushed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, exc: OSError) -> ConfigError:
    return ConfigError(
        [f"{path}: cannot be written: {exc.strerror} (check the folder {path.parent})"]
    )


def _unreadable(path: Path, exc: OSError) -> ConfigError:
    return ConfigError([f"{path}: cannot be read: {exc.strerror} (check its path and owner)"])
