"""The device registry: identity, key or certificate, and patient of every node."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes

from certs.profiles import DEVICE
from certs.verify import role_of
from gateway.dtls.credentials import PreSharedKey, Refusal
from gateway.errors import ForbiddenError, UsageError
from gateway.roster import files

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""At most 32 characters: what tinydtls holds as an identity. No slash or colon, which part a device
from its measurement in SenML names."""

_PATIENT = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_KEY_LENGTH = 16
_KEY_CHARACTERS = string.ascii_letters + string.digits
_LONGEST_KEY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One node."""

    id: str
    """Its name, PSK identity or certificate's CN, and SenML base name."""
    patient: str
    """Whom it measures; the device's own id while nobody is named."""
    key_hex: str
    """Empty for one that has a certificate instead."""
    lenient_units: bool
    """Whether ``%`` with a value above 1 is taken as a percentage."""
    added: str
    """ISO 8601, UTC."""
    revoked: str | None
    fingerprint: str | None = None
    """SHA-256 of its certificate (DER), hex. Any other certificate of its name is an old one."""
    expires: str | None = None
    """When its certificate does: ISO 8601, UTC."""

    def certified(self, certificate: x509.Certificate) -> Device:
        """The same device with a certificate instead of a key."""
        return replace(
            self,
            key_hex="",
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            expires=certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    @property
    def key(self) -> bytes:
        """The pre-shared key."""
        return bytes.fromhex(self.key_hex)

    @property
    def key_text(self) -> str | None:
        """The key as a client that takes text wants it, if it is printable ASCII."""
        key = self.key
        return key.decode() if all(0x21 <= byte <= 0x7E for byte in key) else None


class Devices:
    """The devices of one gateway, in a file of its state folder.

    The running gateway and the command line each have one; :meth:`refresh` sees what the other did.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._devices: dict[str, Device] = {}
        self._bearers: dict[str, str] = {}
        self._expiring: list[tuple[str, str]] = []
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it has changed; whether it had. Raises ConfigError."""
        stamp = files.stamp(self._path)
        if stamp == self._stamp:
            return False
        self._devices = {
            name: _device(self._path, name, entry) for name, entry in files.read(self._path).items()
        }
        active = [one for one in self._devices.values() if one.revoked is None]
        self._bearers = {one.fingerprint: one.id for one in active if one.fingerprint is not None}
        self._expiring = sorted((one.expires, one.id) for one in active if one.expires is not None)
        self._stamp = stamp
        return True

    def all(self) -> list[Device]:
        """By id."""
        return sorted(self._devices.values(), key=lambda device: device.id)

    def get(self, name: str) -> Device | None:
        """None if there is no such device. A revoked one is still here."""
        return self._devices.get(name)

    def psk(self, identity: bytes) -> PreSharedKey | None:
        """See :class:`gateway.dtls.credentials.Credentials`."""
        device = self._devices.get(identity.decode("latin-1"))
        if device is None or device.revoked is not None or not device.key_hex:
            return None
        return PreSharedKey(device.id, device.key)

    def bearer(self, certificate: x509.Certificate) -> str | Refusal:
        """See :class:`gateway.dtls.credentials.Credentials`."""
        device = self._bearers.get(certificate.fingerprint(hashes.SHA256()).hex())
        if device is not None:
            return device
        try:
            role = role_of(certificate)
        except ForbiddenError:
            return Refusal.WRONG_ROLE
        return Refusal.WITHDRAWN if role == DEVICE.role else Refusal.WRONG_ROLE

    def expiring(self, before: str) -> list[tuple[str, str]]:
        """When and who, soonest first: the certificates that end before a time (ISO 8601, UTC).

        A certificate is good until the end of its last second (RFC 5280 section 4.1.2.5).
        """
        return list(takewhile(lambda entry: entry[0] < before, self._expiring))

    def check_new(self, name: str) -> None:
        """Call before making anything for a new device. Raises UsageError."""
        device = self._devices.get(name)
        if device is not None and device.revoked is None:
            raise _there(name)

    def add(self, *devices: Device) -> None:
        """Enter devices, all or none. A revoked one may come back. Raises UsageError."""
        with files.change(self._path) as entries:
            for device in devices:
                if device.id in entries and entries[device.id]["revoked"] is None:
                    raise _there(device.id)
                entries[device.id] = _entry(device)
        self.refresh()

    def revoke(self, name: str, *, today: str) -> Device:
        """No handshake any more, and the running gateway ends its associations.

        Raises UsageError for an unknown one.
        """
        with files.change(self._path) as entries:
            if name not in entries:
                raise UsageError(f"no device {name!r}; `ward-gateway device list` shows them")
            if entries[name]["revoked"] is None:
                entries[name]["revoked"] = today
        self.refresh()
        return self._devices[name]


def new_device(
    name: str, *, patient: str | None, key: bytes | None, lenient_units: bool, today: str
) -> Device:
    """A device that may be entered, with a new key if none is given. Raises UsageError."""
    if not _ID.fullmatch(name):
        raise UsageError(
            f"device id {name!r}: use 1 to 32 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    if patient is not None and not _PATIENT.fullmatch(patient):
        raise UsageError(f"patient {patient!r}: use 1 to 64 printable characters")
    if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
        raise UsageError(f"a key has 1 to {_LONGEST_KEY} bytes, this one {len(key)}")
    if key is None:
        key = "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(_KEY_LENGTH)).encode()
    return Device(
        id=name,
        patient=patient or name,
        key_hex=key.hex(),
        lenient_units=lenient_units,
        added=today,
        revoked=None,
    )


def _device(path: Path, name: str, entry: dict[str, Any]) -> Device:
    try:
        device = Device(id=name, **entry)
        if not device.patient or bool(device.key) == bool(device.fingerprint):
            raise ValueError("no patient, or not either a key or a certificate")
        if bool(device.fingerprint) != bool(device.expires):
            raise ValueError("a certificate that never expires, or a date without one")
    except (TypeError, ValueError) as error:
        raise files.damaged(path, f"device {name!r} cannot be understood ({error})") from None
    return device


def _there(name: str) -> UsageError:
    return UsageError(
        f"device {name!r} is there already; `ward-gateway device revoke {name}` first"
    )


def _entry(device: Device) -> dict[str, Any]:
    entry = asdict(device)
    del entry["id"]
    return entry
