"""The gateway's own secret, ``local.key``, and what is derived from it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_BYTES: Final = 32


def load(state: Path) -> bytes:
    """32 bytes. Raises ConfigError."""
    path = state / "local.key"
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            [
                f"{path}: cannot be read ({error.strerror}); `init` makes it for a new ward, that "
                "of an old one comes from a backup: with another every patient is another"
            ]
        ) from None
    if len(key) != _BYTES:
        raise ConfigError([f"{path}: must have 32 bytes; restore it from a backup"])
    return key


def pseudonym_key(secret: bytes) -> bytes:
    """What patients' pseudonyms are made with."""
    return hmac.digest(secret, b"pseudonyms", hashlib.sha256)


def alarm_key(secret: bytes) -> bytes:
    """What alarms are sealed with on the disk."""
    return hmac.digest(secret, b"alarms", hashlib.sha256)


def pseudonym(key: bytes, patient: str) -> bytes:
    """16 bytes: what the cloud store sees instead of the patient. ``key``: :func:`pseudonym_key`.
    Without it a pseudonym cannot be linked to a patient's id by trying ids."""
    return hmac.digest(key, patient.encode(), hashlib.sha256)[:16]
