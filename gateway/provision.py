"""Making a ward: folders, keys, certificates, configuration files and recipients.

What ``init``, ``recipient add``, ``device add --cert`` and the demo do. The layout of a ward's
folder is here and nowhere else::

    gateway.toml cloud.toml
    ca/           the certificate authority: ca.pem, ca.key
    keys/         gateway.pem gateway.key cloud.pem cloud.key
    state/        outbox, rosters, control socket, local.key
    cloud/        the cloud store's database
    recipients/   NAME/: a profile each, to be moved to the reader's computer
    devices/      ID/: device.pem device.key ca.pem of one with a certificate, for the node
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs import files
from certs.authority import Authority
from certs.profiles import CLOUD_STORE, DEVICE, GATEWAY, PROFILES, RECIPIENTS
from cloud import config as cloud_config
from gateway.config import documents
from gateway.cose.keys import thumbprint_uri
from gateway.errors import UsageError
from gateway.reader import profile
from gateway.roster.recipients import Recipients

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.roster.devices import Device, Devices
    from gateway.roster.recipients import Recipient

COAPS_PORT: Final = 5684
"""RFC 7252 section 12.7."""
CONSOLE_PORT: Final = 8080
CLOUD_PORT: Final = 9443

LOCAL_KEY_BYTES: Final = 32
_HOST: Final = re.compile(r"[A-Za-z0-9.:_-]+")
_FOLDERS: Final = ("ca", "keys", "state", "cloud", "recipients")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a new ward listens: the usual ports, or four in a row from ``base``."""

    coaps: int
    console: int
    cloud: int

    @classmethod
    def of(cls, base: int | None) -> Ports:
        """coaps at base, then coap and the console, then the cloud store at base + 3."""
        if base is None:
            return cls(coaps=COAPS_PORT, console=CONSOLE_PORT, cloud=CLOUD_PORT)
        if not 1 <= base <= 65_532:
            raise UsageError(f"--port-base {base}: must be 1 to 65532")
        return cls(coaps=base, console=base + 2, cloud=base + 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFiles:
    """What a node with a certificate needs, PEM."""

    certificate: Path
    key: Path
    authority: Path


def today(wall: float) -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_ward(
    folder: Path, *, ward: str, cloud_url: str | None, port_base: int | None, wall: float
) -> list[Recipient]:
    """A new ward in a new or empty folder, with one recipient for each role.

    Raises UsageError or ConfigError; nothing is overwritten.
    """
    ports = Ports.of(port_base)
    url = (cloud_url or f"https://127.0.0.1:{ports.cloud}").rstrip("/")
    host = _host_of(url)
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,60}", ward):
        raise UsageError(f"--ward {ward!r}: use 1 to 60 printable characters")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty; name a new folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _FOLDERS:
            (folder / name).mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    authority = Authority.create(folder / "ca", ward, wall=wall)
    keys = folder / "keys"
    local = ("localhost", "127.0.0.1", "::1")
    hosts = local if host in local else (*local, host)
    for name, kind in (("gateway", GATEWAY), ("cloud", CLOUD_STORE)):
        key = files.generate()
        files.write_private(keys / f"{name}.key", key)
        certificate = authority.issue(kind, name, key.public_key(), wall=wall, hosts=hosts)
        files.write_certificate(keys / f"{name}.pem", certificate)
    _write_new(folder / "state" / "local.key", os.urandom(LOCAL_KEY_BYTES))
    changes = {
        "gateway.ward": ward,
        "coap.listen": (f"0.0.0.0:{ports.coaps}", f"[::]:{ports.coaps}"),
        "console.listen": (f"127.0.0.1:{ports.console}",),
        "cloud.url": url,
    }
    _write_new(folder / "gateway.toml", documents.commented(changes).encode())
    _write_new(folder / "cloud.toml", _cloud_toml(ports.cloud).encode())
    recipients = Recipients(folder / "state" / "recipients.json")
    return [
        add_recipient(
            folder, recipients, kind.role, role=kind.role, patients=(), cloud_url=url, wall=wall
        )
        for kind in RECIPIENTS
    ]


def add_recipient(
    folder: Path,
    recipients: Recipients,
    name: str,
    *,
    role: str,
    patients: Sequence[str],
    cloud_url: str,
    wall: float,
) -> Recipient:
    """A new reader with a profile in ``folder/recipients/name``. Raises UsageError, ConfigError."""
    recipients.check_new(name, role)
    authority = Authority.load(folder / "ca")
    tls_key, seal_key = files.generate(), files.generate()
    certificate = authority.issue(
        PROFILES[role],
        name,
        tls_key.public_key(),
        wall=wall,
        kid_uri=thumbprint_uri(seal_key.public_key()),
    )
    profile.write(
        folder / "recipients" / name,
        name=name,
        role=role,
        cloud=cloud_url,
        authority=authority.certificate,
        certificate=certificate,
        tls_key=tls_key,
        seal_key=seal_key,
    )
    public = seal_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return recipients.add(
        name,
        role=role,
        patients=tuple(patients),
        public_key=public.decode(),
        today=today(wall),
    )


def add_certified_device(
    folder: Path, devices: Devices, device: Device, *, wall: float
) -> DeviceFiles:
    """Enter ``device`` with a new certificate instead of its key; the files for the node.

    Files of a revoked device of that name are replaced: they open no door any more. Raises
    UsageError, ConfigError.
    """
    devices.check_new(device.id)
    authority = Authority.load(folder / "ca")
    place = folder / "devices" / device.id
    made = DeviceFiles(
        certificate=place / "device.pem", key=place / "device.key", authority=place / "ca.pem"
    )
    try:
        for one in (place.parent, place):
            one.mkdir(mode=0o700, exist_ok=True)
        if devices.get(device.id) is not None:
            made.key.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{place} cannot be made: {error.strerror}") from None
    key = files.generate()
    certificate = authority.issue(DEVICE, device.id, key.public_key(), wall=wall)
    files.write_private(made.key, key)
    files.write_certificate(made.certificate, certificate)
    files.write_certificate(made.authority, authority.certificate)
    devices.add(device.certified(certificate))
    return made


def _host_of(url: str) -> str:
    refused = UsageError(f"--cloud {url!r}: must be https://HOST[:PORT]")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refused from None
    if port == 0 or parts.username is not None or not _HOST.fullmatch(host):
        raise refused
    if f"https://{parts.netloc}" != url:
        raise refused
    return host


def _cloud_toml(port: int) -> str:
    text = cloud_config.example()
    for key, value in (
        ("listen", f"127.0.0.1:{port}"),
        ("database", "cloud/cloud.db"),
        ("certificate", "keys/cloud.pem"),
        ("key", "keys/cloud.key"),
        ("ca", "ca/ca.pem"),
    ):
        text, found = re.subn(rf'(?m)^{key} = ".*"$', f'{key} = "{value}"', text)
        assert found == 1, f"cloud.toml has no {key}"
    return text


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    files.flush_folder(path.parent)
