"""R-23: what a record costs the disk, by how many are committed together.

The real writer on a real disk, and `write_bytes` of /proc/self/io, which counts whole pages on
their way to the device. What is varied is the load that is offered, in bursts of so many records at
once, and at length a ward's: records one by one, evenly, which the writer gathers. Records live
their whole life: stored, delivered, deleted, folded from the log into the database.

The page minimum is what their two transactions must write at least once: the pages that the rows of
a burst fill and one for the counters, and one for the counters when they are removed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from gateway.clock import SystemClock
from gateway.lane import Lane
from gateway.outbox import store
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.row import ROW_OVERHEAD
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from tests.experiments import Experiment, Found, Run, register

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.outbox.connection import Connection

_BURSTS = {1: 64, 4: 64, 16: 64, 64: 48, 256: 24}
"""Records in one, and how many there are in a run: enough that the ends do not count."""

_SEALED = 250
"""Bytes of a sealed record of two vitals."""
_PAGE = 4096
_MOST = 3.0
"""Times the page minimum."""

_DELIVERED_TOGETHER = 4
"""Bursts; one settlement."""

_CONFIG = Config(max_bytes=64 << 20, reserve_bytes=8 << 20)
_WARD = 100
_WARD_S = 20.0
"""Bracelets with a pack a second, for so long, to see what that makes a day."""
_CALM = 300
"""Commits that a calm time may have saved up, and that count for no day."""
_MOST_COMMITS = 30
"""A second: 20 gathered, and what the deliveries bring."""


class _Cost(NamedTuple):
    written: float
    """Bytes to the device for a record, over its life."""
    waited_ms: float
    """Median of a burst's way to its commit."""


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    raise AssertionError


def _missing() -> str | None:
    if not os.access("/proc/self/io", os.R_OK):
        return "/proc/self/io cannot be read"
    with tempfile.NamedTemporaryFile() as file:
        before = _written()
        file.write(bytes(64 << 10))
        file.flush()
        os.fsync(file.fileno())
        return None if _written() - before >= 64 << 10 else "temporary files are not on a disk"


async def _writer(path: Path) -> Writer:
    writer = Writer(partial(Store, path), _CONFIG, SystemClock())
    await writer.start(
        on_committed=lambda tokens: None,
        on_refused=lambda tokens, error: None,
        on_failure=lambda error: None,
    )
    return writer


def _entries(n: int, count: int) -> list[Entry]:
    names = [os.urandom(16) for _ in range(count)]
    return [
        Entry(name, Lane.ROUTINE, b"p" * 16, n, b"e" * 16, os.urandom(_SEALED), name)
        for name in names
    ]


async def _cost(path: Path, burst: int, bursts: int) -> _Cost:
    Store(path).close()  # what it costs to make the tables is not a record's
    writer = await _writer(path)
    waited: list[float] = []
    began = _written()
    for n in range(bursts):
        then = time.monotonic()
        writer.submit(_entries(n, burst), [], n)
        await writer.flush()
        waited.append(time.monotonic() - then)
        if n % _DELIVERED_TOGETHER == _DELIVERED_TOGETHER - 1:
            await _deliver(writer)
    await writer.close()
    waited.sort()
    return _Cost((_written() - began) / (bursts * burst), waited[len(waited) // 2] * 1000)


async def _deliver(writer: Writer) -> None:
    while leased := await writer.lease(Lane.ROUTINE, 1000, 1 << 20, now=0.0):
        writer.settle(Lane.ROUTINE, done=[one.number for one in leased])


def _minimum(burst: int) -> float:
    pages = 1 + -(-burst * (_SEALED + ROW_OVERHEAD) // _PAGE) + 1 / _DELIVERED_TOGETHER
    return pages * _PAGE / burst


class _Ward(NamedTuple):
    written: float
    """Bytes of a record, over its life."""
    commits: float
    """A second."""


async def _ward(path: Path, seconds: float) -> _Ward:
    """Packs that come one by one, evenly."""
    Store(path).close()
    writer = await _writer(path)
    for n in range(_CALM):
        writer.submit(_entries(n, 1), [], n)
        await writer.flush()
    await _deliver(writer)
    await writer.flush()
    commits, began, then = writer.status().commits, _written(), time.monotonic()
    count = int(seconds * _WARD)
    for n in range(count):
        writer.submit(_entries(n, 1), [], n)
        if n % _WARD == 0:
            await _deliver(writer)
        await asyncio.sleep(max(0.0, then + n / _WARD - time.monotonic()))
    await _deliver(writer)
    await writer.flush()
    commits = writer.status().commits - commits
    await writer.close()
    return _Ward((_written() - began) / count, commits / (time.monotonic() - then))


def _row_by_row(add: Callable[[Store, Lane, Sequence[Entry]], None]) -> object:
    def planted(self: Store, lane: Lane, entries: Sequence[Entry]) -> None:
        for entry in entries:
            add(self, lane, [entry])
            self.commit()
            self.begin()

    return planted


def _folding(configure: Callable[[Connection, Path], None]) -> object:
    def planted(connection: Connection, path: Path) -> None:
        configure(connection, path)
        connection.execute("PRAGMA wal_autocheckpoint = 1")

    return planted


def _run(run: Run) -> Found:
    failures: list[str] = []
    figures: dict[str, object] = {}
    last = float("inf")
    with ExitStack() as stack:
        if run.fault == "row-by-row":
            stack.enter_context(patch.object(Store, "add", _row_by_row(Store.add)))
        elif run.fault == "checkpoint-always":
            stack.enter_context(patch.object(store, "configure", _folding(store.configure)))
        for burst, bursts in _BURSTS.items():
            path = run.folder / f"{burst}.db"
            cost = asyncio.run(_cost(path, burst, bursts * run.runs))
            share = cost.written / _minimum(burst)
            figures[f"{burst} at once"] = (
                f"{cost.written:,.0f} B a record ({share:.1f} x), {cost.waited_ms:.1f} ms"
            )
            if share > _MOST:
                failures.append(f"{burst} at once: {share:.2f} times the page minimum")
            if cost.written >= last:
                failures.append(f"{burst} at once: {cost.written:.0f} B a record, {last:.0f} alone")
            last = cost.written
            if run.fault and failures:
                return Found(failures, figures)
        run.progress(run.runs)
        if run.long:
            ward = asyncio.run(_ward(run.folder / "ward.db", _WARD_S))
            day = ward.written * _WARD * 86_400
            figures[f"{_WARD} bracelets, a pack a second"] = (
                f"{ward.written:,.0f} B a record, {ward.commits:.0f} commits a second, "
                f"{day / 1e9:.0f} GB a day"
            )
            if ward.commits > _MOST_COMMITS:
                failures.append(f"a ward's packs: {ward.commits:.0f} commits a second")
    return Found(failures, figures)


register(
    Experiment(
        id="R-23",
        name="write-budget",
        target="at most 3 x the page minimum over a record's life, and less the more come at once",
        unit="rounds",
        short=1,
        long=20,
        run=_run,
        faults={
            "row-by-row": "each row is a transaction",
            "checkpoint-always": "the log is folded into the database after every commit",
        },
        fault_runs=1,
        needs=_missing,
    )
)
