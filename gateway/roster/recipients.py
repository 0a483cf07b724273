"""The people and desks that may read: their roles, patients and sealing keys.

Here is only what is public. The private keys lie in the profile folders, which belong on the
recipients' own computers.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.cose.keys import encode_public
from gateway.errors import SealError, UsageError
from gateway.lane import LANES_OF_ROLE, Lane
from gateway.roster import files

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.cose.keys import PublicKey

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

ONLY_NAMED_PATIENTS = frozenset({"patient"})
"""Roles that read nobody unless named; the others read everybody unless narrowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One reader."""

    name: str
    role: str
    patients: tuple[str, ...]
    """Empty: nobody for the role ``patient``, everybody for the others."""
    public_key: str
    """PEM of the sealing key."""
    added: str
    revoked: str | None

    def reads(self, patient: str, lane: Lane) -> bool:
        """Whether records of this patient and lane are sealed for this reader."""
        if self.revoked is not None or lane not in LANES_OF_ROLE[self.role]:
            return False
        if not self.patients:
            return self.role not in ONLY_NAMED_PATIENTS
        return patient in self.patients


class Recipients:
    """The readers of one ward, in a file of the gateway's state folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._recipients: dict[str, Recipient] = {}
        self._keys: dict[str, PublicKey] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it has changed; whether it had. Raises ConfigError."""
        stamp = files.stamp(self._path)
        if stamp == self._stamp:
            return False
        recipients, keys = {}, {}
        for name, entry in files.read(self._path).items():
            recipients[name], keys[name] = _recipient(self._path, name, entry)
        self._recipients, self._keys, self._stamp = recipients, keys, stamp
        return True

    def all(self) -> list[Recipient]:
        """By name."""
        return sorted(self._recipients.values(), key=lambda one: one.name)

    def active(self, name: str) -> Recipient | None:
        """None if there is no such recipient, or no more."""
        recipient = self._recipients.get(name)
        return None if recipient is None or recipient.revoked is not None else recipient

    def readers(self, patient: str, lane: Lane) -> tuple[PublicKey, ...]:
        """The sealing keys of all who may read this patient and lane, by name."""
        return tuple(self._keys[one.name] for one in self.all() if one.reads(patient, lane))

    def check_new(self, name: str, role: str) -> None:
        """Call before making keys for a new recipient. Raises UsageError."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"recipient name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-'"
            )
        if role not in LANES_OF_ROLE:
            raise UsageError(f"no role {role!r}; there are: {', '.join(LANES_OF_ROLE)}")
        if self.active(name) is not None:
            raise _there(name)

    def add(
        self, name: str, *, role: str, patients: tuple[str, ...], public_key: str, today: str
    ) -> Recipient:
        """Enter a recipient. From the next epoch on records are sealed for it too.

        Raises UsageError.
        """
        self.check_new(name, role)
        recipient = Recipient(
            name=name,
            role=role,
            patients=patients,
            public_key=public_key,
            added=today,
            revoked=None,
        )
        with files.change(self._path) as entries:
            # Again, behind the lock: another program may have been faster.
            if name in entries and entries[name]["revoked"] is None:
                raise _there(name)
            entries[name] = _entry(recipient)
        self.refresh()
        return recipient

    def widen(self, name: str, patients: tuple[str, ...]) -> Recipient:
        """Let a recipient read more patients, from the next epoch on. One who reads everybody
        stays as it is: a list of patients would take all others away. Raises UsageError."""
        with files.change(self._path) as entries:
            if name not in entries or entries[name]["revoked"] is not None:
                raise UsageError(f"no recipient {name!r}; `ward-gateway recipient list` shows them")
            entry = entries[name]
            if entry["patients"] or entry["role"] in ONLY_NAMED_PATIENTS:
                entry["patients"] = sorted({*entry["patients"], *patients})
        self.refresh()
        return self._recipients[name]


def _recipient(path: Path, name: str, entry: dict[str, Any]) -> tuple[Recipient, PublicKey]:
    try:
        recipient = Recipient(name=name, **{**entry, "patients": tuple(entry["patients"])})
        if recipient.role not in LANES_OF_ROLE:
            raise ValueError(f"no role {recipient.role!r}")
        key = load_pem_public_key(recipient.public_key.encode())
        encode_public(key)  # type: ignore[arg-type]  # refuses what nothing can be sealed for
    except (TypeError, ValueError, KeyError, AttributeError, SealError, UnsupportedAlgorithm) as e:
        raise files.damaged(path, f"recipient {name!r} cannot be understood ({e})") from None
    return recipient, key  # type: ignore[return-value]


def _there(name: str) -> UsageError:
    return UsageError(f"recipient {name!r} is there already")


def _entry(recipient: Recipient) -> dict[str, Any]:
    entry = asdict(recipient)
    del entry["name"]
    return entry
