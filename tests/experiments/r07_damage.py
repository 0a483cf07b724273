"""R-07: random bytes over the database: it starts, and what can be read is saved and counted.

In process, through the door that the gateway uses; a start that meets damage only later ends and is
made again, as the gateway does. What must come along is known from the image before the damage:
every row on a leaf page that was not hit, if nothing above the leaves was; and never a row that is
not as it was. Some images go through a whole gateway instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from gateway.cose.envelope import Envelope
from gateway.lane import Lane
from gateway.outbox import salvage
from gateway.outbox.entry import Entry
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.outbox.connection import Connection

_ROWS = {Lane.ROUTINE: 1500, Lane.EMERGENCY: 60}
_PAGE = 4096
_LEAF = 0x0D
"""First byte of a leaf page of a table (SQLite file format, 1.6)."""

_MOST = 4096
_START_S = 10.0
_WHOLE_EVERY = 50
_STARTS = 3
_NODES = 8


class _Image(NamedTuple):
    """The outbox before the damage."""

    entries: dict[tuple[Lane, int], Entry]
    on_page: dict[tuple[Lane, int], int]


def _make(path: Path) -> _Image:
    chance = random.Random(7)
    store = Store(path)
    store.begin()
    store.envelopes.add(
        Envelope(bytes([n]) * 16, "gw", b"p" * 16, Lane.ROUTINE, n, (), b"m" * 500)
        for n in range(20)
    )
    store.alarms.keep([(b"a" * 16, b"sealed")], [], 1)
    entries: dict[tuple[Lane, int], Entry] = {}
    for lane, count in _ROWS.items():
        new = [
            Entry(chance.randbytes(16), lane, b"p" * 16, n, b"e" * 16, chance.randbytes(150), None)
            for n in range(count)
        ]
        entries |= {(lane, store.last_number + 1 + n): entry for n, entry in enumerate(new)}
        store.add(lane, new)
    store.commit()
    store.close()
    data = path.read_bytes()
    names = {entry.sealed: name for name, entry in entries.items()}
    on_page = {
        names[row[72:-4]]: page
        for page in range(1, len(data) // _PAGE)
        for row in _rows(data[page * _PAGE : (page + 1) * _PAGE])
        if row[72:-4] in names
    }
    assert on_page.keys() == entries.keys()
    return _Image(entries, on_page)


def _rows(page: bytes) -> Iterator[bytes]:
    """The last column of the rows on a leaf page. What lies between them is old."""
    if page[0] == _LEAF:
        for place in range(int.from_bytes(page[3:5], "big")):
            at = int.from_bytes(page[8 + 2 * place : 10 + 2 * place], "big")
            size, at = _varint(page, at)
            _, at = _varint(page, at)
            header, _ = _varint(page, at)
            yield page[at + header : at + size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends."""
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if data[at - 1] < 0x80:
            return value, at


class _Hit(NamedTuple):
    at: int
    size: int

    @property
    def pages(self) -> range:
        return range(self.at // _PAGE, (self.at + self.size - 1) // _PAGE + 1)


def _start(path: Path) -> tuple[dict[tuple[Lane, int], Entry], Store, float]:
    """What the lanes hold, once a gateway would run; the longest start."""
    longest = 0.0
    for _ in range(_STARTS):
        began = time.monotonic()
        store = open_store(path)
        longest = max(longest, time.monotonic() - began)
        try:
            found = {}
            for lane in Lane:
                rows, damaged = store.read(lane, 0, 1 << 62, 1 << 30, 1 << 40)
                found |= {(lane, number): entry for number, entry in rows}
                if damaged:
                    store.begin()
                    store.quarantine(lane, damaged, 1)
                    store.commit()
        except sqlite3.DatabaseError as error:
            store.distrust(error)
            store.abandon()
        else:
            return found, store, longest
    raise AssertionError(f"not sound after {_STARTS} starts")


def _judge(image: _Image, hit: _Hit, path: Path) -> tuple[list[str], int, float]:
    """What is wrong, how many rows were saved, and how long a start took."""
    try:
        found, store, took = _start(path)
    except Exception as error:
        return [f"{hit}: {type(error).__name__}: {error}"], 0, 0.0
    failures = []
    if any(image.entries.get(name) != entry for name, entry in found.items()):
        failures.append(f"{hit}: a row is not as it was")
    missing = len(image.entries) - len(found)
    if store.damaged + store.lost != missing:
        failures.append(
            f"{hit}: {missing} rows are gone, {store.damaged} are told as damaged and {store.lost} "
            "as lost"
        )
    if set(image.on_page.values()).issuperset(hit.pages):
        due = {name for name, page in image.on_page.items() if page not in hit.pages}
        if not due <= found.keys():
            failures.append(f"{hit}: {len(due - found.keys())} rows that can be read are not saved")
    aside = list(path.parent.glob("*-damaged-?"))
    if len(aside) > 1 or (store.lost and not aside):
        failures.append(f"{hit}: {len(aside)} damaged files are kept")
    store.close()
    again = open_store(path)
    if again.notice or sum(again.rows.values()) != len(found):
        failures.append(f"{hit}: the next start finds something else")
    again.close()
    return failures, len(found), took


def _first_error_ends_it(
    connection: Connection, sql: tuple[str, str], sound: object
) -> Iterator[list[tuple[object, ...]]]:  # fmt: skip
    low = -1
    with contextlib.suppress(sqlite3.DatabaseError):
        while rows := connection.execute(sql[0], (low + 1, 1 << 62, 10)).fetchall():
            yield rows
            low = rows[-1][0]


def _empty(path: Path, complete: Path, connect: object) -> None:
    Store(complete).close()


_PLANTED = {
    "first_error": ("_ranges", _first_error_ends_it),
    "not_salvaged": ("_rebuild", _empty),
}


async def _whole(run: Run, number: int) -> list[str]:
    """The same under a gateway: everything that it acknowledged is delivered or counted."""
    chance = random.Random(run.seed + number)
    folder = run.folder / f"whole-{number}"
    folder.mkdir()
    async with a_mortal_ward(folder, _NODES) as ward:
        await ward.stub.close()
        await ward.live()
        while len(ward.crowd.acknowledged) < 40 * _NODES:
            ward.crowd.heard.clear()
            await ward.crowd.heard.wait()
        await ward.kill()
        _smash(ward.state / "outbox.db", chance)
        await ward.stub.open()
        for _ in range(_STARTS):
            await asyncio.to_thread(ward.start_gateway)
            if await ward.ended(0.3) is None:
                break
            await ward.bury()
        else:
            return [f"the gateway ended {_STARTS} times"]
        return await _counted(ward)


async def _counted(ward: Mortal) -> list[str]:
    await asyncio.to_thread(ward.delivered)
    outbox = (await asyncio.to_thread(ward.status))["outbox"]
    missing = len(ward.crowd.acknowledged) - len(ward.stub.kept)
    counted = outbox["damaged"] + outbox["lost"]
    await ward.kill()
    # What was stored and not acknowledged may be there too.
    if missing > counted:
        return [f"whole gateway: {missing} packs are gone, {counted} are told"]
    return []


def _smash(path: Path, chance: random.Random) -> _Hit:
    size = path.stat().st_size
    hit = _Hit(chance.randrange(size), chance.randint(1, _MOST))
    hit = hit._replace(size=min(hit.size, size - hit.at))
    with path.open("r+b") as file:
        file.seek(hit.at)
        file.write(chance.randbytes(hit.size))
    return hit


def _run(run: Run) -> Found:
    chance = random.Random(run.seed)
    (run.folder / "sound").mkdir()
    image = _make(run.folder / "sound" / "outbox.db")
    failures: list[str] = []
    saved, slowest = 0, 0.0
    for done in range(run.runs):
        folder = run.folder / "damaged"
        shutil.copytree(run.folder / "sound", folder)
        hit = _smash(folder / "outbox.db", chance)
        with contextlib.ExitStack() as stack:
            if run.fault is not None:
                stack.enter_context(patch.object(salvage, *_PLANTED[run.fault]))
            wrong, rows, took = _judge(image, hit, folder / "outbox.db")
        failures += wrong
        saved, slowest = saved + rows, max(slowest, took)
        shutil.rmtree(folder)
        if run.fault is None and done % _WHOLE_EVERY == 0:
            failures += asyncio.run(_whole(run, done))
        run.progress(done + 1)
    if run.long and slowest > _START_S:
        failures.append(f"a start took {slowest:.1f} s")
    figures = {
        "rows saved %": round(100 * saved / run.runs / len(image.entries), 2),
        "slowest start ms": round(slowest * 1000),
    }
    return Found(failures, figures)


register(
    Experiment(
        id="R-07",
        name="damage",
        target="starts <= 10 s; damaged file kept aside; readable rows saved, the others counted; "
        "no loop",
        unit="images",
        short=50,
        long=500,
        run=_run,
        faults={
            "first_error": "the first row that cannot be read ends the salvage",
            "not_salvaged": "a damaged outbox is replaced by an empty one",
        },
        fault_runs=3,
    )
)
