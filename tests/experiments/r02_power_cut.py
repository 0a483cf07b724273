"""R-02: the power is cut at any write, truncation, sync or delete under the outbox.

The real store and clerk, with the production schema and pragmas, on a disk in memory; checkpoints
are small, so that cuts hit them too. After a cut the start-up path opens what is left with the
product's own SQLite, and finds what was acknowledged: the work that was under way is there as a
whole or not at all. An outbox goes through up to five cuts.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.outbox import configuring, store
from gateway.outbox.connection import connect as connect_sqlite
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.disk import MEMORY, Disk, in_place, missing
from tests.experiments.rigs.shift import Content, Shift, found_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.outbox.connection import Connection, Cursor

_LONGEST = 899
"""Operations before a cut, at most."""

_CUTS_OF_ONE = 5


@contextmanager
def _planted(fault: str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if fault in ("synchronous-normal", "synchronous-off"):
            level = fault.partition("-")[2].upper()

            def configure(connection: Connection, path: Path) -> None:
                configuring.configure(connection, path)
                connection.execute(f"PRAGMA synchronous = {level}")

            patch.setattr(store, "configure", configure)
        elif fault == "late-commit":
            execute, owing = Store._execute, list[Store]()

            def late(self: Store, sql: str, parameters: Sequence[object] = ()) -> Cursor:
                if sql == "COMMIT":
                    owing[:] = [self]
                    return execute(self, "SELECT 1")
                if sql.startswith(("BEGIN", "PRAGMA wal_checkpoint")) and owing == [self]:
                    execute(owing.pop(), "COMMIT")
                return execute(self, sql, parameters)

            patch.setattr(Store, "_execute", late)
        elif fault == "mark-first":
            commit = Store.commit

            def marked(self: Store) -> None:
                self._mark.write(self.last_number, self._removed)
                self._mark.sync()
                commit(self)

            patch.setattr(Store, "commit", marked)
        yield


def _cut(path: Path, held: Content, source: random.Random) -> tuple[list[str], Content, str]:
    """Work until the power goes; what is wrong afterwards, what is there, where it was cut."""
    at = source.randint(1, _LONGEST)
    disk = Disk(lambda kind, name, n: n >= at, cut=True)
    disk.load(path, path.with_name(path.name + "-wal"), path.with_suffix(".mark"))
    before = after = held
    with in_place(disk, checkpoint_pages=40) as connect:
        opened: Store | None = None
        try:
            opened = Store(path, connect=connect)
            shift = Shift(opened, held, source)
            while True:
                before, after = shift.held, shift.held
                try:
                    shift.turn()
                finally:
                    after = shift.after
        except (sqlite3.Error, OSError, store.OutboxError):
            disk.silence()
            if opened is not None:
                opened.abandon()
    assert disk.failed, "something else than the power ended the work"
    disk.keep(source)
    wrong, there = _look(path, before, after)
    return wrong, there, disk.failed[0]


def _look(path: Path, before: Content, after: Content) -> tuple[list[str], Content]:
    """What is wrong, and what is there, after the start-up path."""
    connections: list[Connection] = []

    def connect(path: Path) -> Connection:
        connections.append(connect_sqlite(path))
        return connections[-1]

    try:
        opened = open_store(path, connect=connect)
    except (store.OutboxError, sqlite3.Error) as error:
        return [f"it does not open: {error!r}"], Content()
    wrong: list[str] = []
    if opened.notice or opened.damaged:
        wrong.append(f"damaged: {opened.damaged} rows, {opened.notice!r}")
    if opened.lost:
        wrong.append(f"it says that {opened.lost} rows are lost")
    [(said,), *_] = connections[-1].execute("PRAGMA integrity_check").fetchall()
    if said != "ok":
        wrong.append(f"integrity_check: {said}")
    there, damaged = found_in(opened)
    opened.abandon()
    wrong += [f"damaged rows: {damaged}"] if damaged else []
    if (missed := before.differences(there)) and after.differences(there):
        wrong += missed
    return wrong, there


def _run(run: Run) -> Found:
    failures: list[str] = []
    places: Counter[str] = Counter()
    source = random.Random(run.seed)
    memory = MEMORY if MEMORY.is_dir() else run.folder
    done = acknowledged = 0
    with _planted(run.fault):
        while done < run.runs and not (run.fault and failures):
            with tempfile.TemporaryDirectory(dir=memory) as folder:
                held = Content()
                for _ in range(min(_CUTS_OF_ONE, run.runs - done)):
                    done += 1
                    number = held.last_number
                    wrong, held, place = _cut(Path(folder) / "outbox.db", held, source)
                    acknowledged += held.last_number - number
                    places[place] += 1
                    run.progress(done)
                    if wrong:
                        failures.append(f"cut {done} ({place}): {'; '.join(wrong)}")
                        break
    return Found(failures, {"rows acknowledged": acknowledged, "cut at": dict(places)})


register(
    Experiment(
        id="R-02",
        name="power-cut",
        target="0 acknowledged rows lost, none comes back, nothing by halves, integrity ok",
        unit="cuts",
        short=200,
        long=20_000,
        run=_run,
        faults={
            "synchronous-normal": "COMMIT does not wait for the disk (synchronous = NORMAL)",
            "synchronous-off": "nothing ever waits for the disk (synchronous = OFF)",
            "late-commit": "acknowledged before COMMIT, which comes with the next turn",
            "mark-first": "the mark is written before what it promises",
        },
        fault_runs=40,
        needs=missing,
    )
)
