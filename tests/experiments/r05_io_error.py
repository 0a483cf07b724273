"""R-05: each write, truncation and sync under the outbox fails once, in turn.

The real writer, in its thread, makes 50 commits on a disk in memory. One call fails, all others
succeed: after a failed sync a system takes the pages for clean, so a later success means nothing.
Then the least that can be on the disk is opened again.

SQLite keeps an error of its own checkpoint to itself. That is harmless, and counted: what a
checkpoint copies stays in the synced log until a whole one has succeeded.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.errors import OutboxCorrupt, OutboxError
from gateway.lane import Lane
from gateway.outbox.clerk import Clerk
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.disk import MEMORY, Disk, in_place, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gateway.outbox.clerk import Write
    from gateway.outbox.connection import Connection, Cursor

_COMMITS = 50
_CONFIG = Config(max_bytes=1 << 20, reserve_bytes=1 << 18)


@contextmanager
def _planted(fault: str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if fault == "swallowed":
            execute = Store._execute

            def going_on(self: Store, sql: str, parameters: Sequence[object] = ()) -> Cursor:
                try:
                    return execute(self, sql, parameters)
                except sqlite3.OperationalError:
                    if sql != "COMMIT":
                        raise
                    return execute(self, "SELECT 1")

            patch.setattr(Store, "_execute", going_on)
        elif fault == "tried-again":
            write = Clerk.write

            def again(self: Clerk, lane: Lane, writes: Sequence[Write]) -> list[Lane]:
                number = self.store.last_number
                try:
                    return write(self, lane, writes)
                except sqlite3.OperationalError:
                    self.store.last_number = number
                    if self.store._connection._inner.in_transaction:  # type: ignore[attr-defined]
                        self.store._execute("ROLLBACK")
                    return write(self, lane, writes)

            patch.setattr(Clerk, "write", again)
        yield


class _Nurse:
    """What one gateway does, and what it was told."""

    def __init__(self, path: Path, connect: Callable[[Path], Connection], seed: int) -> None:
        self._source = random.Random(seed)
        self._writer = Writer(partial(open_store, path, connect=connect), _CONFIG, SystemClock())
        self.acknowledged: set[bytes] = set()
        self.settled: set[bytes] = set()
        """Given back as delivered; whether that was committed is another matter."""

        self.failures: list[BaseException] = []
        self.started = False
        self.broken: list[str] = []

    def _committed(self, tokens: list[object]) -> None:
        if self.failures:
            self.broken.append("a token came back after the failure")
        for token in tokens:
            assert isinstance(token, list)
            self.acknowledged.update(token)

    async def work(self) -> None:
        writer = self._writer
        try:
            await writer.start(
                on_committed=self._committed,
                on_refused=lambda *_: None,
                on_failure=self.failures.append,
            )
        except OutboxError:
            await writer.close()
            return
        self.started = True
        try:
            for n in range(_COMMITS):
                await self._commit(n)
        except OutboxCorrupt:
            acknowledged = len(self.acknowledged)
            try:
                self._submit(_COMMITS)
                self.broken.append("work is taken after the failure")
            except OutboxCorrupt:
                pass
            await writer.close()
            if len(self.acknowledged) != acknowledged:
                self.broken.append("acknowledged after the failure")
        await writer.close()
        if len(self.failures) > 1:
            self.broken.append("the failure was told twice")

    async def _commit(self, n: int) -> None:
        writer = self._writer
        self._submit(n)
        await writer.flush()
        if n % 5 == 4:
            lane = Lane.ROUTINE if n % 2 else Lane.EMERGENCY
            leased = await writer.lease(lane, 5, 1 << 20, now=0.0)
            self.settled |= {one.entry.id for one in leased}
            writer.settle(lane, done=[one.number for one in leased])

    def _submit(self, n: int) -> None:
        lane = Lane.EMERGENCY if n % 5 == 0 else Lane.ROUTINE
        names = [self._source.randbytes(16) for _ in range(self._source.choice((1, 1, 8)))]
        size = self._source.randint(40, 1499)
        self._writer.submit(
            [Entry(name, lane, b"p" * 16, n, b"e" * 16, bytes(size), name) for name in names],
            [],
            names,
        )


def _case(memory: Path, at: int, seed: int) -> tuple[list[str], Disk, bool]:
    """Operation ``at`` fails (0: none). What is wrong, the disk, and whether anybody was told."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        return _in(Path(folder) / "outbox.db", at, seed)


def _in(path: Path, at: int, seed: int) -> tuple[list[str], Disk, bool]:
    disk = Disk(lambda kind, name, n: n == at, cut=False)
    with in_place(disk, checkpoint_pages=40) as connect:
        nurse = _Nurse(path, connect, seed)
        asyncio.run(nurse.work())
    disk.keep(None)
    wrong = nurse.broken
    told = bool(nurse.failures) or not nurse.started
    if at and not told and not _harmless(disk):
        wrong.append("nobody was told")
    opened = open_store(path)
    there = {
        entry.id for lane in Lane for _, entry in opened.read(lane, 0, 1 << 62, 1 << 30, 1 << 40)[0]
    }
    if lost := len(nurse.acknowledged - there - nurse.settled):
        wrong.append(f"{lost} acknowledged rows are lost")
    if opened.lost or opened.damaged or opened.notice:
        wrong.append(f"lost {opened.lost}, damaged {opened.damaged}, {opened.notice}")
    opened.abandon()
    return wrong, disk, told


def _harmless(disk: Disk) -> bool:
    """In the write-ahead log's mode only a checkpoint touches the database, and only there the log
    is synced with nothing new in it. The log is deleted when it has been checkpointed whole."""
    [failed] = disk.failed
    return failed.endswith(".db") or disk.synced_nothing or failed.startswith("delete")


def _run(run: Run) -> Found:
    failures: list[str] = []
    kept_quiet = 0
    memory = MEMORY if MEMORY.is_dir() else run.folder
    with _planted(run.fault):
        _, disk, _ = _case(memory, 0, run.seed)
        operations = disk.operations
        for n in range(run.runs):
            at = 1 + (n * operations // run.runs if run.runs < operations else n % operations)
            wrong, disk, told = _case(memory, at, run.seed + n // operations)
            kept_quiet += not told
            failures += [f"operation {at}, {disk.failed[0]}: {one}" for one in wrong[:1]]
            run.progress(n + 1)
            if run.fault and failures:
                break
    figures = {"operations": operations, "errors SQLite's checkpoint kept to itself": kept_quiet}
    return Found(failures, figures)


register(
    Experiment(
        id="R-05",
        name="io-error",
        target="no acknowledgement of that batch or a later one, told once; 0 lost, also by errors "
        "that checkpoints keep to themselves",
        unit="errors",
        short=60,
        long=2000,
        run=_run,
        faults={
            "swallowed": "an error of COMMIT is passed over",
            "tried-again": "a transaction that failed is tried once more",
        },
        fault_runs=30,
        needs=missing,
    )
)
