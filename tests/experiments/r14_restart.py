"""R-14: a restart with much in the outbox, and with a long log; the log is cut once it is empty."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

from gateway.lane import Lane
from gateway.outbox.connection import connect
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from tests.acceptance.ward import Ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.outbox.connection import Connection

_SEALED = 220
"""Bytes of a usual record."""
_TURN = 5000
_READY_S = 3.0
_PATIENCE_S = 600.0
_CUT_S = {True: 2.5, False: 20.0}
"""Whether a fault is planted: then it is waited for in vain."""


class _Case(NamedTuple):
    rows: int
    log: int
    """Bytes of it at least."""


_SHORT = (_Case(0, 0), _Case(50_000, 0), _Case(500, 1 << 20))
_LONG = (_Case(0, 0), _Case(1, 0), _Case(1_000_000, 0), _Case(1_000_000, 100_000_000))


def _add(store: Store, count: int) -> None:
    first = store.last_number + 1
    entries = [
        Entry(
            n.to_bytes(16, "big"), Lane.ROUTINE, b"p" * 16, n, b"e" * 16, os.urandom(_SEALED), None
        )
        for n in range(first, first + count)
    ]
    store.begin()
    store.add(Lane.ROUTINE, entries)
    store.commit()


def _without_checkpoints(path: Path) -> Connection:
    connection = connect(path)
    execute = connection.execute

    class Growing:
        """Its log grows, whatever the outbox says of it."""

        close = connection.close

        def execute(self, sql: str, parameters: tuple[object, ...] = (), /) -> object:
            done = execute(sql, parameters)
            if "wal_autocheckpoint" in sql:
                execute("PRAGMA wal_autocheckpoint = 0")
            return done

    return Growing()  # type: ignore[return-value]


def _make(folder: Path, case: _Case, state: Path) -> int:
    """An outbox in ``state``; how many rows it has."""
    folder.mkdir()
    path = folder / "outbox.db"
    store = Store(path)
    while (left := case.rows - store.rows[Lane.ROUTINE]) > 0:
        _add(store, min(left, _TURN))
    store.close()
    store = Store(path, connect=_without_checkpoints)
    log = path.with_name("outbox.db-wal")
    while case.log and log.stat().st_size < case.log:
        _add(store, 500)
    # As a power cut leaves it: whoever closes it folds the log in.
    for file in folder.iterdir():
        shutil.copy(file, state)
    store.close()
    rows = store.rows[Lane.ROUTINE]
    shutil.rmtree(folder)
    return rows


async def _restart(ward: Mortal, run: Run, case: _Case) -> tuple[list[str], float]:
    """What is wrong, and the seconds until it was ready."""
    await ward.stub.close()
    for leftover in ward.state.glob("outbox*"):
        leftover.unlink()
    rows = _make(run.folder / "made", case, ward.state)
    began = time.monotonic()
    # A long run pays for the imports too.
    Ward.begin_gateway(ward) if run.long else ward.begin_gateway()
    await asyncio.to_thread(ward.await_gateway)
    ready = time.monotonic() - began
    failures = []
    if (found := await asyncio.to_thread(ward.waiting, "routine")) != rows:
        failures.append(f"{found} of {rows} rows are there")
    await ward.stub.open()
    if case.log:
        failures += await _drained(ward)
    await ward.kill()
    return [f"{case}: {one}" for one in failures], ready


async def _drained(ward: Mortal) -> list[str]:
    deadline = time.monotonic() + _PATIENCE_S
    while await asyncio.to_thread(ward.waiting, "routine"):
        if time.monotonic() > deadline:
            return ["it is not delivered"]
        await asyncio.sleep(0.05)
    log, deadline = (
        ward.state / "outbox.db-wal",
        time.monotonic() + _CUT_S[ward.planted is not None],
    )
    while log.stat().st_size:
        if time.monotonic() > deadline:
            return [f"a log of {log.stat().st_size} bytes is left"]
        await asyncio.sleep(0.05)
    return []


async def _restarts(run: Run) -> Found:
    failures: list[str] = []
    longest = 0.0
    cases = _LONG if run.long else _SHORT
    async with a_mortal_ward(run.folder, 0) as ward:
        ward.stub.keeps = False
        ward.planted = run.fault
        for done, case in enumerate(cases[-1:] if run.fault else cases * run.runs):
            wrong, ready = await _restart(ward, run, case)
            failures += wrong
            longest = max(longest, ready)
            run.progress(done // len(cases) + 1)
    if run.long and longest > _READY_S:
        failures.append(f"ready after {longest:.1f} s")
    return Found(failures, {"ready within s": round(longest, 2)})


def _run(run: Run) -> Found:
    return asyncio.run(_restarts(run))


register(
    Experiment(
        id="R-14",
        name="restart",
        target="ready <= 3 s with 1,000,000 rows and a log of 100 MB; log cut after the drain",
        unit="rounds",
        short=1,
        long=3,
        run=_run,
        faults={"log_kept": "the log is never folded in and cut"},
        fault_runs=1,
    )
)
