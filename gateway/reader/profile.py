"""A recipient's profile: the folder that a reader's computer needs, and nothing else.

``profile.toml`` (who, and where the cloud store is), ``tls.key`` and ``tls.pem`` (to be let in),
``seal.key`` (to open records; never the same key as for TLS), ``ca.pem`` (whom to believe).
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from certs.files import load_certificate, load_sealing, write_certificate, write_private
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from certs.files import SealingKey

VERSION = 1

_KEYS = ("version", "name", "role", "cloud")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One recipient."""

    folder: Path
    name: str
    role: str
    cloud: str
    """``https://host:port`` of the cloud store."""

    @property
    def certificate(self) -> Path:
        """PEM, to be let in by the cloud store."""
        return self.folder / "tls.pem"

    @property
    def key(self) -> Path:
        """Private key of the certificate."""
        return self.folder / "tls.key"

    @property
    def authority(self) -> Path:
        """The ward's certificate authority."""
        return self.folder / "ca.pem"

    def load_authority(self) -> x509.Certificate:
        """Raises ConfigError."""
        return load_certificate(self.authority)

    def load_sealing_key(self) -> SealingKey:
        """Raises ConfigError."""
        return load_sealing(self.folder / "seal.key")


def locate(config: Path | None, name: str) -> Path:
    """The folder of the recipient ``name`` beside ``gateway.toml``.

    ``config`` is the path of ``gateway.toml`` if one was given; else the usual places are looked
    at. Raises ConfigError.
    """
    places = (Path("gateway.toml"), Path("/etc/ward-gateway/gateway.toml"))
    found = config or next((place for place in places if place.exists()), None)
    if found is None:
        raise ConfigError(
            ["no gateway.toml here: say --config FILE, or --profile DIR with a recipient's folder"]
        )
    recipients = found.parent / "recipients"
    # A name is one folder, never a way out of it.
    if name in {"", ".", ".."} or Path(name).name != name or not (recipients / name).is_dir():
        there = sorted(path.parent.name for path in recipients.glob("*/profile.toml"))
        raise ConfigError(
            [f"{recipients}: no recipient {name!r}; there are: {', '.join(there) or 'none'}"]
        )
    return recipients / name


def load(folder: Path) -> Profile:
    """Raises ConfigError with every problem at once."""
    path = folder / "profile.toml"
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: no such file (make a profile with `ward-gateway recipient add`)"]
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    section = document.get("profile")
    if set(document) != {"profile"} or not isinstance(section, dict):
        raise ConfigError([f"{path}: must have one section, [profile]"])
    problems = [f"{path}: profile.{key}: unknown" for key in section if key not in _KEYS]
    if section.get("version") != VERSION:
        problems.append(f"{path}: profile.version: must be {VERSION}: made by another program?")
    problems += [
        f"{path}: profile.{key}: must be a text"
        for key in ("name", "role", "cloud")
        if not isinstance(section.get(key), str) or not section[key]
    ]
    if not problems and not _is_https(section["cloud"]):
        problems.append(f"{path}: profile.cloud: must be https://host[:port]")
    if problems:
        raise ConfigError(problems)
    return Profile(
        folder=folder,
        name=section["name"],
        role=section["role"],
        cloud=section["cloud"].rstrip("/"),
    )


def write(
    folder: Path,
    *,
    name: str,
    role: str,
    cloud: str,
    authority: x509.Certificate,
    certificate: x509.Certificate,
    tls_key: ec.EllipticCurvePrivateKey,
    seal_key: SealingKey,
) -> Profile:
    """Make the folder (0700) and everything in it. Raises ConfigError, also if it is there."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ConfigError([f"{folder}: cannot be made: {error}"]) from error
    profile = Profile(folder=folder, name=name, role=role, cloud=cloud)
    write_private(profile.key, tls_key)
    write_private(folder / "seal.key", seal_key)
    write_certificate(profile.certificate, certificate)
    write_certificate(profile.authority, authority)
    # A JSON text is a TOML basic string.
    lines = [f"version = {VERSION}"]
    lines += [f"{key} = {json.dumps(getattr(profile, key))}" for key in ("name", "role", "cloud")]
    (folder / "profile.toml").write_text("\n".join(["[profile]", *lines, ""]))
    return profile


def _is_https(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        parts.scheme == "https"
        and bool(parts.hostname)
        and port_is_fine
        and parts.path in {"", "/"}
        and not (parts.query or parts.fragment or parts.username)
    )
