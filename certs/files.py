"""Keys and certificates as files: private ones 0600, written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, x25519

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

SealingKey: TypeAlias = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey


def generate() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    raise NotImplementedError


def write_private(path: Path, key: SealingKey) -> None:
    """PKCS #8 PEM, mode 0600. Never overwrites. Raises ConfigError."""
    raise NotImplementedError


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """PEM, mode 0644. Replaces what is there. Raises ConfigError."""
    raise NotImplementedError


def load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """A P-256 key. Raises ConfigError, also if other users may read the file."""
    raise NotImplementedError


def load_sealing(path: Path) -> SealingKey:
    """A reader's key: P-256 or X25519. Raises ConfigError as :func:`load_private`."""
    raise NotImplementedError


def load_certificate(path: Path) -> x509.Certificate:
    """One PEM certificate. Raises ConfigError."""
    raise NotImplementedError
