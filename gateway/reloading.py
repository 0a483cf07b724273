"""Reading the configuration again while the gateway runs: what can be taken over, and what waits.

Everything is checked before anything changes: the file, the certificates and keys that it names,
and the way to the cloud store with them. Who reloads then cannot fail half-way.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway import identity
from gateway.config import loading
from gateway.lane import Lane
from gateway.uplink import cloud_sink

if TYPE_CHECKING:
    from gateway.config.loading import Loaded
    from gateway.config.sections import Configuration
    from gateway.dtls.credentials import Identity

_TAKEN_OVER: Final = {
    *("gateway.ward", "gateway.certificate", "gateway.key", "gateway.ca", "cloud.url"),
    *("limits.device_messages_per_s", "limits.associations"),
    *("outbox.max_bytes", "outbox.reserve_bytes", "epochs.minutes", "epochs.records"),
}
"""Everything else is bound into records, open on the disk, bound to a port, or under way: it takes
a restart."""


class Fresh(NamedTuple):
    """What is in force from now on."""

    loaded: Loaded
    """With the old values of what waits for a restart."""
    identity: Identity
    words: str
    """What has changed and what waits, for the log."""


def read(current: Loaded, who: Identity) -> Fresh:
    """The configuration that the file has now; ``who``: the gateway as it is.

    Raises ConfigError with all that is wrong.
    """
    new = loading.load(current.path, os.environ)
    identity.load(new)  # as the next start will
    before = _values(current.configuration)
    waiting = [
        name
        for name, value in _values(new.configuration).items()
        if value != before[name] and name not in _TAKEN_OVER
    ]
    loaded = new._replace(configuration=_merged(new.configuration, current.configuration))
    fresh = identity.load(loaded)
    for lane in Lane:
        cloud_sink(loaded, lane)
    after = _values(loaded.configuration)
    changed = [name for name, value in after.items() if value != before[name]]
    if (fresh.certificate, fresh.authority) != (who.certificate, who.authority):
        changed.append("certificates")
    words = f"reloaded, changed: {', '.join(changed) or 'nothing'}"
    if waiting:
        words += f"; waiting for a restart: {', '.join(waiting)}"
    return Fresh(loaded, fresh, words)


def _values(configuration: Configuration) -> dict[str, Any]:
    """``section.key`` -> value."""
    return {
        f"{section.name}.{one.name}": getattr(getattr(configuration, section.name), one.name)
        for section in fields(configuration)
        for one in fields(getattr(configuration, section.name))
    }


def _merged(new: Configuration, current: Configuration) -> Configuration:
    """Of the new one what can be taken over."""
    sections = {}
    for section in fields(current):
        old, fresh = getattr(current, section.name), getattr(new, section.name)
        names = [one.name for one in fields(old) if f"{section.name}.{one.name}" in _TAKEN_OVER]
        sections[section.name] = replace(old, **{name: getattr(fresh, name) for name in names})
    return replace(current, **sections)
