"""No fault: the gateway kills itself at a place and time that ``DIES_AT`` names, ``PLACE:N``.

It dies at the N-th time that it comes by. Places: ``received``, ``before_commit``, ``committed``,
``checkpoint``, ``uploading``, ``uploaded``. ``DIES_WITH`` names a fault that is planted besides.
"""

from __future__ import annotations

import asyncio
import os
import random
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli import main
from gateway.ingress.driver import Driver
from gateway.outbox import store
from gateway.outbox.store import Store
from gateway.sinks.cloud import CloudSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.outbox.connection import Connection
    from gateway.outbox.entry import Entry
    from gateway.sinks import Outcome

if "DIES_WITH" in os.environ:
    runpy.run_path(str(Path(__file__).with_name(f"{os.environ['DIES_WITH']}.py")))
_PLACE, _, _N = os.environ["DIES_AT"].partition(":")
_left = int(_N)
_receive, _commit, _deliver, _configure = (
    Driver.receive,
    Store.commit,
    CloudSink.deliver,
    store.configure,
)
_COMMIT_S = 0.002
"""About what a transaction with a checkpoint takes."""
_TOLD_S = 0.05
"""Time for an answer that does not wait for the commit to reach its node."""


def _here(place: str) -> bool:
    global _left
    if place == _PLACE:
        _left -= 1
    return place == _PLACE and _left <= 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _die_soon() -> None:
    time.sleep(random.SystemRandom().uniform(0, _COMMIT_S))
    _die()


def _receiving(self: Driver, burst: Any, now: float, wall: float) -> None:
    if _here("received"):
        _die()
    _receive(self, burst, now, wall)


def _committing(self: Store) -> None:
    if _here("before_commit"):
        time.sleep(_TOLD_S)
        _die()
    if _here("checkpoint"):
        threading.Thread(target=_die_soon).start()
    _commit(self)
    if _here("committed"):
        _die()


def _configuring(connection: Connection, path: Path) -> None:
    _configure(connection, path)
    if _PLACE == "checkpoint":  # in nearly every commit
        connection.execute("PRAGMA wal_autocheckpoint = 4")


async def _delivering(self: CloudSink, batch: Sequence[Entry]) -> list[Outcome]:
    if _here("uploading"):
        asyncio.get_running_loop().call_later(random.SystemRandom().uniform(0, 0.004), _die)
    outcomes = await _deliver(self, batch)
    if _here("uploaded"):
        _die()
    return outcomes


Driver.receive = _receiving  # type: ignore[method-assign]
Store.commit = _committing  # type: ignore[method-assign]
CloudSink.deliver = _delivering  # type: ignore[method-assign]
store.configure = _configuring

if __name__ == "__main__":
    sys.exit(main())
