"""R-08: one bit of the outbox flips while nobody looks: in a row, in the log's middle or its tail,
in the counters.

The files are those of a gateway that was killed. A flip in a row is found by its checksum. A flip
in the log makes SQLite forget the transactions from there on, without an error: the mark beside the
database tells how many rows are gone. The count is exact, unless deliveries vanish with the rows:
then nobody can tell which of the rows were delivered, and the count is at most too high by these.
A flip in the counters loses nothing: the rows and the mark agree against them.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from gateway.lane import Lane
from gateway.outbox import store
from gateway.outbox.entry import Entry
from gateway.outbox.mark import Mark
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.disk import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMITS = 20
_BIG = 1 << 40
_PLACES = ("row", "middle of the log", "tail of the log", "counters")
"""In turn, as the outboxes for them."""

_HEADER = 32
"""Bytes of the log before its first frame."""


class _Outbox(NamedTuple):
    """The files of a gateway that was killed, and what was acknowledged."""

    files: dict[str, bytes]
    """By suffix."""

    waiting: dict[int, Entry]
    ends: list[int]
    """Where each transaction in the log ends."""

    added: list[dict[int, Entry]]
    """What each of these brought, as far as it still waits at the end."""

    delivered: list[int]
    """How many entries each of these removed."""

    last_number: int


def _make(folder: Path, source: random.Random, *, deliver: bool, rested: bool) -> _Outbox:
    """``deliver``: some of it. ``rested``: all of it is in the database, and the log is empty."""
    path = folder / "made.db"
    made = Store(path)
    waiting: dict[int, Entry] = {}
    ends: list[int] = []
    added: list[dict[int, Entry]] = []
    delivered: list[int] = []
    log = path.with_name(path.name + "-wal")
    for n in range(2 * _COMMITS):
        if n == _COMMITS:
            made.rest()
        lane = source.choice(list(Lane))
        entries = [_entry(source, lane) for _ in range(source.choice((1, 1, 1, 8)))]
        numbered = {made.last_number + 1 + at: entry for at, entry in enumerate(entries)}
        made.begin()
        made.add(lane, entries)
        waiting |= numbered
        removed = 0
        if deliver and n % 3 == 2:
            there = [(number, one) for number, one in sorted(waiting.items()) if one.lane is lane]
            there = there[: source.randint(1, 6)]
            made.remove_delivered(lane, there)
            for number, _ in there:
                del waiting[number]
            removed = len(there)
        made.commit()
        if n >= _COMMITS:
            ends.append(log.stat().st_size)
            added.append(numbered)
            delivered.append(removed)
    if rested:
        made.rest()
    files = {
        suffix: path.with_name(f"made{suffix}").read_bytes()
        for suffix in (".db", ".db-wal", ".mark")
    }
    last = made.last_number
    made.close()
    added = [{n: one for n, one in numbered.items() if n in waiting} for numbered in added]
    return _Outbox(files, waiting, ends, added, delivered, last)


def _entry(source: random.Random, lane: Lane) -> Entry:
    name = source.randbytes(16)
    sealed = source.randbytes(source.randint(40, 1499))
    return Entry(name, lane, b"p" * 16, source.getrandbits(41), b"e" * 16, sealed, name)


def _flip(data: bytes, at: int, source: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]


def _flipped(
    outbox: _Outbox, folder: Path, place: str, source: random.Random
) -> tuple[dict[str, bytes], int]:
    """The files, and the first transaction in the log that is gone with it."""
    files = dict(outbox.files)
    if place == "row":
        # A tree that grew leaves copies behind, which nobody reads.
        once = [one for one in outbox.waiting.values() if files[".db"].count(one.sealed) == 1]
        entry = source.choice(once)
        start = files[".db"].index(entry.sealed) - 72
        at = source.randrange(start, start + 72 + len(entry.sealed) + 4)
        files[".db"] = _flip(files[".db"], at, source)
        return files, len(outbox.ends)
    if place == "counters":
        files[".db"] = _counters_flipped(folder, files[".db"], source)
        return files, len(outbox.ends)
    last = len(outbox.ends) - 1
    low, high = (outbox.ends[-2], outbox.ends[-1]) if "tail" in place else (0, outbox.ends[-2])
    at = source.randrange(low, high)
    files[".db-wal"] = _flip(files[".db-wal"], at, source)
    gone = 0 if at < _HEADER else next(n for n in range(last + 1) if at < outbox.ends[n])
    return files, gone


def _counters_flipped(folder: Path, database: bytes, source: random.Random) -> bytes:
    path = folder / "counters.db"
    path.write_bytes(database)
    column = source.choice(("last_number", "removed"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        [(value,)] = connection.execute(f"SELECT {column} FROM ledger")
        flipped = value ^ 1 << source.randrange(62)
        connection.execute(f"UPDATE ledger SET {column} = ?", (flipped,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.read_bytes()


def _look(folder: Path, files: dict[str, bytes]) -> tuple[dict[int, Entry], int, Store]:
    """What can be read, how many rows are found damaged, and the closed store's figures."""
    path = folder / "outbox.db"
    for suffix, content in files.items():
        path.with_name(f"outbox{suffix}").write_bytes(content)
    opened = open_store(path)
    there: dict[int, Entry] = {}
    bad = 0
    for lane in Lane:
        entries, damaged = opened.read(lane, 0, _BIG, _BIG, _BIG)
        there |= dict(entries)
        bad += len(damaged)
    opened.abandon()
    for file in folder.glob("outbox*"):
        file.unlink()
    return there, bad, opened


def _wrong(outbox: _Outbox, folder: Path, place: str, source: random.Random) -> Iterator[str]:
    files, gone = _flipped(outbox, folder, place, source)
    there, damaged, opened = _look(folder, files)
    if opened.last_number != outbox.last_number:
        yield f"the next number is off by {opened.last_number - outbox.last_number}"
    true = sum(len(numbered) for numbered in outbox.added[gone:])
    slack = sum(outbox.delivered[gone:])
    if place == "row":
        if damaged != 1:
            yield f"{damaged} damaged rows were found"
        true, slack = 0, 0
    elif damaged:
        yield f"{damaged} damaged rows were found"
    if not true <= opened.lost <= true + slack:
        yield f"{true} rows were lost, the outbox says {opened.lost}"
    if bool(opened.notice) != bool(opened.lost):
        yield f"{opened.lost} rows are lost, and it says {opened.notice!r}"
    missing = outbox.waiting.keys() - there.keys()
    if len(missing) != true + damaged:
        yield f"{len(missing)} rows are missing, {true + damaged} should be"
    if any(outbox.waiting[number] != there[number] for number in outbox.waiting.keys() & there):
        yield "a row with other bytes was read"


def _run(run: Run) -> Found:
    source = random.Random(run.seed)
    failures: list[str] = []
    with ExitStack() as stack:
        memory = MEMORY if MEMORY.is_dir() else run.folder
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        outboxes = [
            _make(folder, source, deliver=deliver, rested=rested)
            for deliver in (False, True)
            for rested in (True, False, False, True)
        ]
        if run.fault == "checksum-skipped":
            stack.enter_context(patch.object(store, "intact", lambda lane, number, blob: True))
        elif run.fault == "mark-not-read":
            stack.enter_context(patch.object(Mark, "read", lambda self: None))
        for n in range(run.runs):
            place = _PLACES[n % len(_PLACES)]
            wrong = _wrong(outboxes[n % len(outboxes)], folder, place, source)
            failures += [f"flip {n + 1}, {place}: {one}" for one in wrong]
            run.progress(n + 1)
            if run.fault and failures:
                break
    return Found(failures, {"places": ", ".join(_PLACES)})


register(
    Experiment(
        id="R-08",
        name="bit-flip",
        target="100 % detected, lost rows counted exactly (never too low where deliveries vanish)",
        unit="flips",
        short=80,
        long=10_000,
        run=_run,
        faults={
            "checksum-skipped": "a row's checksum is not looked at",
            "mark-not-read": "the mark beside the database is not looked at",
        },
        fault_runs=12,
    )
)
