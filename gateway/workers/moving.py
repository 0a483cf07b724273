"""A changed number of workers gives most patients another home: their alarms move there first.

Done before anything else is started, from outbox to outbox, once for a change: a file in the state
folder says for how many workers it was done. A crash in between costs nothing, because a move
begins with the copy and can be done again.

What moves is what would be missed or would stay for ever: the alarms whose condition holds, and the
watch over devices. An alarm of a worker's own deliveries stays with its outbox. Records
that wait stay where they are and are delivered from there (:mod:`gateway.workers.leftovers`). The
keys of repeated messages stay too, because they do not say whose they are: a message that a moved
patient's device repeats across the change is stored twice, which is the price.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from gateway.alarm_book import open_kept
from gateway.errors import ConfigError
from gateway.outbox.offline import offline
from gateway.roster.secret import alarm_key, pseudonym, pseudonym_key
from gateway.workers.place import home, outbox_path, outboxes

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("workers")

NAME: Final = "workers"
"""In the state folder: the number of workers, when it is not 1."""

_Stored = tuple[bytes, bytes]
"""An alarm's id and what is sealed."""


def settle(state: Path, count: int, secret: bytes, wall: float) -> None:
    """Call before ``count`` workers start. ``secret``: the gateway's ``local.key``.

    Raises ConfigError when that cannot be noted, OutboxError when a gateway is running here or an
    outbox cannot be used.
    """
    before = _number(state)
    if before == count:
        return
    moved = _move(state, count, secret, int(wall * 1000))
    try:
        _note(state, count)
    except OSError as error:
        raise ConfigError([f"{state / NAME}: cannot be written: {error.strerror}"]) from None
    _log.info("number of workers: %d, before: %d; alarms moved: %d", count, before, moved)


def _move(state: Path, count: int, secret: bytes, at_ms: int) -> int:
    """Alarms and watches to the outboxes of their patients' homes; how many."""
    seal, names = alarm_key(secret), pseudonym_key(secret)
    arriving: defaultdict[Path, list[_Stored]] = defaultdict(list)
    leaving: defaultdict[Path, list[_Stored]] = defaultdict(list)
    for path in outboxes(state):
        for stored in _alarms(path):
            kept = open_kept(seal, *stored)
            if kept is None or not kept.patient:
                continue
            at = outbox_path(state, home(pseudonym(names, kept.patient), count))
            if at != path:
                arriving[at].append(stored)
                leaving[path].append(stored)
    for path, alarms in arriving.items():
        _change(path, alarms, [], at_ms)
    for path, alarms in leaving.items():
        _change(path, [], [name for name, _ in alarms], at_ms)
    return sum(len(alarms) for alarms in arriving.values())


def _alarms(path: Path) -> list[_Stored]:
    with offline(path) as store:
        return store.alarms.all()


def _change(path: Path, kept: list[_Stored], gone: list[bytes], at_ms: int) -> None:
    with offline(path) as store:
        store.begin()
        store.alarms.keep(kept, gone, at_ms)
        store.commit()


def _number(state: Path) -> int:
    """For how many workers the state folder is; 0 when that cannot be read, which means again."""
    try:
        return int((state / NAME).read_text())
    except FileNotFoundError:
        return 1
    except (OSError, ValueError):
        return 0


def _note(state: Path, count: int) -> None:
    path = state / NAME
    if count == 1:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{count}\n")
    os.replace(fresh, path)
