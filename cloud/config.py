"""``cloud.toml``: what the reference cloud store is told."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from typing import TYPE_CHECKING, Any

from certs.profiles import RECIPIENTS
from gateway.errors import ConfigError
from gateway.lane import LANES_OF_ROLE, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READERS = tuple(profile.role for profile in RECIPIENTS)
"""The roles of people and desks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The ``[cloud]`` section, paths absolute, and ``[roles]``."""

    folder: Path
    """Where ``cloud.toml`` is and relative paths start. Not a key."""

    listen: str = "127.0.0.1:9443"
    """``host:port`` of the HTTPS side; ``[::1]:9443`` for IPv6. Port 0 takes any free one."""

    database: str = "cloud.db"
    """A path (SQLite), or an address such as ``postgresql://host/name``."""

    certificate: Path
    """The store's own certificate, PEM, with its host names."""

    key: Path
    """The private key of that certificate, PEM, mode 0600."""

    ca: Path
    """The ward's certificate authority, PEM: nobody is let in with a certificate of another."""

    roles: Mapping[str, frozenset[Lane]] = field(default_factory=lambda: dict(LANES_OF_ROLE))
    """Which lanes each role may read. What a reader can open is decided by the envelopes alone."""

    def address(self) -> tuple[str, int]:
        """``listen`` as host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


_DEFAULTS: dict[str, str | None] = {
    each.name: None if each.default is MISSING else each.default
    for each in fields(Config)
    if each.name not in {"folder", "roles"}
}
"""The keys of ``[cloud]``; None for one that must be there."""


def example() -> str:
    """A commented ``cloud.toml`` with every key at its default."""
    return resources.files("cloud").joinpath("cloud.toml").read_text()


def load(path: Path) -> Config:
    """Raises ConfigError with every problem at once."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file (make one with `ward-gateway init`)"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    problems: list[str] = []
    folder = path.absolute().parent
    _refuse_unknown(document, ("cloud", "roles"), "", problems)
    cloud = _section(document, "cloud", problems)
    _refuse_unknown(cloud, tuple(_DEFAULTS), "cloud.", problems)
    texts: dict[str, str] = {}
    for key, default in _DEFAULTS.items():
        value = cloud.get(key, default)
        texts[key] = value if isinstance(value, str) else ""
        if value is None:
            problems.append(f"cloud.{key}: missing (the path of a PEM file)")
        elif not texts[key]:
            problems.append(f"cloud.{key}: must be a text, not {value!r}")
    if texts["listen"] and not _is_address(texts["listen"]):
        problems.append(f"cloud.listen: {texts['listen']!r} is not host:port")
    roles = _roles(_section(document, "roles", problems), problems)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return Config(
        folder=folder,
        listen=texts["listen"],
        database=texts["database"],
        certificate=folder / texts["certificate"],
        key=folder / texts["key"],
        ca=folder / texts["ca"],
        roles=roles,
    )


def _section(document: dict[str, Any], name: str, problems: list[str]) -> dict[str, Any]:
    section = document.get(name, {})
    if isinstance(section, dict):
        return section
    problems.append(f"{name}: must be a section, [{name}]")
    return {}


def _refuse_unknown(
    section: dict[str, Any], known: Sequence[str], prefix: str, problems: list[str]
) -> None:
    problems.extend(
        f"{prefix}{key}: unknown (there are: {', '.join(known)})"
        for key in section
        if key not in known
    )


def _is_address(listen: str) -> bool:
    host, separator, port = listen.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    return bool(separator and host and port.isdecimal() and int(port) < 1 << 16) and (
        bare or ":" not in host
    )


def _roles(section: dict[str, Any], problems: list[str]) -> dict[str, frozenset[Lane]]:
    _refuse_unknown(section, READERS, "roles.", problems)
    roles = dict(LANES_OF_ROLE)
    for role, lanes in section.items():
        if isinstance(lanes, list) and all(lane in tuple(Lane) for lane in lanes):
            roles[role] = frozenset(Lane(lane) for lane in lanes)
        else:
            problems.append(f'roles.{role}: must be a list of "emergency" and "routine"')
    return roles
