"""gateway.outbox.salvage"""

from __future__ import annotations

import pathlib
import random
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.cose.envelope import Envelope
from gateway.errors import OutboxCorrupt, OutboxError
from gateway.lane import Lane
from gateway.outbox.connection import connect, damage_note
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from gateway.outbox.connection import Connection, Cursor
    from gateway.outbox.entry import Entry
    from tests.unit.outbox.conftest import Running

ROUTINE, EMERGENCIES, DELIVERED = 2000, 40, 10
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path, make_entry: Callable[..., Entry]) -> Path:
    """A closed outbox with both lanes, dead letters, envelopes, alarms."""
    path = tmp_path / "outbox.db"
    store = Store(path)
    store.begin()
    store.envelopes.add(
        Envelope(bytes([n]) * 16, "gw", b"p" * 16, Lane.ROUTINE, n, (), b"m" * 500)
        for n in range(50)
    )
    store.envelopes.delivered([bytes(16)])
    store.alarms.keep([(b"a" * 16, b"sealed")], [], 1)
    store.add(Lane.ROUTINE, [make_entry() for _ in range(ROUTINE)])
    store.add(Lane.EMERGENCY, [make_entry(Lane.EMERGENCY) for _ in range(EMERGENCIES)])
    store.bury(Lane.ROUTINE, [(5, "no")], 1)
    store.remove_delivered(Lane.ROUTINE, store.read(Lane.ROUTINE, 5, 16, 99, 1 << 30)[0])
    store.commit()
    store.close()
    return path


def smash(path: Path, page: int, size: int = PAGE) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * size)


def intact_rows(store: Store) -> dict[Lane, set[int]]:
    return {
        lane: {number for number, _ in store.read(lane, 0, 1 << 62, 1 << 30, 1 << 40)[0]}
        for lane in Lane
    }


def test_a_sound_outbox_is_just_opened(path: Path) -> None:
    store = open_store(path)
    assert (store.notice, store.lost) == ("", 0)
    store.close()
    assert not damage_note(path).exists()


def test_around_a_smashed_page_everything_is_saved(path: Path) -> None:
    # A leaf of the routine table: it is the largest, and lies in the middle of the file.
    smash(path, path.stat().st_size // PAGE // 2)
    with pytest.raises(OutboxCorrupt):
        Store(path)
    store = open_store(path)
    saved = intact_rows(store)
    assert len(saved[Lane.EMERGENCY]) == EMERGENCIES
    there = ROUTINE - 1 - DELIVERED
    assert there - 60 < len(saved[Lane.ROUTINE]) < there
    assert store.lost == there - len(saved[Lane.ROUTINE]), "counted exactly"
    assert "damaged" in store.notice
    assert path.with_name("outbox.db-damaged-1").exists()
    assert len(store.envelopes.get(bytes([n]) * 16 for n in range(50))) == 50
    assert store.envelopes.get([bytes(16)])[0].delivered
    assert store.alarms.all() == [(b"a" * 16, b"sealed")]
    assert [letter.number for letter in store.dead_letters(0, 9)] == [5]
    assert store.delivered[Lane.ROUTINE] == DELIVERED
    assert store.last_number == ROUTINE + EMERGENCIES
    lost = store.lost
    store.close()
    again = open_store(path)
    assert (again.lost, again.notice) == (lost, ""), "once"
    again.close()


def test_a_file_that_is_no_database_loses_all_and_says_so(path: Path) -> None:
    smash(path, 0)
    store = open_store(path)
    assert store.lost == ROUTINE + EMERGENCIES - 1 - DELIVERED
    assert store.last_number == ROUTINE + EMERGENCIES
    store.close()


def test_damage_met_while_running_is_healed_by_the_next_start(path: Path) -> None:
    damage_note(path).touch()
    store = open_store(path)
    assert store.lost == 0
    assert sum(len(rows) for rows in intact_rows(store).values()) == (
        ROUTINE + EMERGENCIES - 1 - DELIVERED
    )
    store.close()
    assert not damage_note(path).exists()


class Corrupt:
    """A connection that finds the file damaged when it reads a lane."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.close = inner.close

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if "WHERE number > ?" in sql:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        return self._inner.execute(sql, parameters)


async def test_a_writer_that_meets_damage_leaves_a_note(
    path: Path, start: Callable[..., Awaitable[Running]]
) -> None:
    running = await start(
        open_store=lambda path: Store(path, connect=lambda p: Corrupt(connect(p)))
    )
    with pytest.raises(OutboxCorrupt):
        await running.writer.lease(Lane.ROUTINE, 10, 1 << 20, now=0.0)
    await running.writer.close()
    assert damage_note(path).exists()
    assert len(running.failures) == 1


class Countdown:
    """Calls that work until they have been made so often; then the process is gone."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **keywords: object) -> object:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
            return function(*args, **keywords)

        return counted


def test_a_crash_anywhere_in_the_salvage_is_survived(path: Path, tmp_path: Path) -> None:
    """Each step of the salvage that touches a name fails once."""
    original = tmp_path / "original"
    original.mkdir()
    damage_note(path).touch()
    for file in (path, path.with_suffix(".mark"), damage_note(path)):
        shutil.copy(file, original)
    there = ROUTINE + EMERGENCIES - 1 - DELIVERED
    for step in range(12):
        folder = tmp_path / f"step-{step}"
        shutil.copytree(original, folder)
        with pytest.MonkeyPatch.context() as patch:
            countdown = Countdown(step)
            for name in ("rename", "unlink"):
                patch.setattr(pathlib.Path, name, countdown.wrap(getattr(pathlib.Path, name)))
            try:
                open_store(folder / "outbox.db").close()
            except KeyboardInterrupt:
                crashed = True
            else:
                crashed = False
        store = open_store(folder / "outbox.db")
        assert sum(store.rows.values()) == there, f"step {step}"
        assert store.lost == 0, f"step {step}"
        store.close()
    assert not crashed, "the last round had no step left to fail"


def test_a_running_gateway_is_not_salvaged(path: Path) -> None:
    def impatient(path: Path) -> Connection:
        connection = connect(path)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    running = Store(path)
    running.begin()
    running.commit()
    damage_note(path).touch()
    with pytest.raises(OutboxError, match="in use"):
        open_store(path, connect=impatient)
    running.close()
    store = open_store(path)
    assert store.lost == 0
    store.close()


@pytest.mark.parametrize("seed", range(30))
def test_random_damage_never_stops_the_start_and_is_counted(path: Path, seed: int) -> None:
    source = random.Random(seed)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(source.randint(1, 3)):
            file.seek(source.randrange(100, size))
            file.write(source.randbytes(source.choice([1, 16, 256, 4096])))
    read, quarantined, store = read_all(path)
    there = ROUTINE + EMERGENCIES - 1 - DELIVERED
    assert read + quarantined + store.lost >= there
    store.close()


def read_all(path: Path) -> tuple[int, int, Store]:
    """As a gateway does: it ends at damage, and the next start heals it."""
    for _ in range(2):
        store = open_store(path)
        try:
            found = [store.read(lane, 0, 1 << 62, 1 << 30, 1 << 40) for lane in Lane]
        except sqlite3.DatabaseError as error:
            store.distrust(error)
            store.abandon()
        else:
            return sum(len(e) for e, _ in found), sum(len(d) for _, d in found), store
    raise AssertionError("healed once, damaged again")


def leaf_of(path: Path, number: int) -> int:
    """The page that holds a routine row, by the bytes of its record."""
    connection = sqlite3.connect(path)
    [(blob,)] = connection.execute("SELECT row FROM routine WHERE number = ?", (number,))
    connection.close()
    return path.read_bytes().rindex(blob) // PAGE


def test_rubbish_that_looks_like_the_last_row_does_not_end_the_salvage(path: Path) -> None:
    """A row whose number is rubbish and too high is where SQLite stops."""
    leaf = leaf_of(path, ROUTINE // 2)
    data = bytearray(path.read_bytes())
    page = data[leaf * PAGE : (leaf + 1) * PAGE]
    first = int.from_bytes(page[8:10], "big")
    # The first cell's number (two bytes behind its size) becomes one that is never given out.
    at = leaf * PAGE + first + 2
    assert data[at] & 0x80
    data[at] = 0xFF
    data[at + 1] |= 0x80
    path.write_bytes(data)
    damage_note(path).touch()
    store = open_store(path)
    saved = intact_rows(store)[Lane.ROUTINE]
    there = ROUTINE - 1 - DELIVERED
    assert there - 60 < len(saved) < there
    assert store.lost == there - len(saved)
    store.close()


def test_the_neighbours_of_a_smashed_page_are_saved(path: Path) -> None:
    """The last row before it too, behind which SQLite would step onto it."""
    leaf = leaf_of(path, ROUTINE // 2)
    there = {number for number in range(16, ROUTINE + 1) if leaf_of(path, number) != leaf}
    smash(path, leaf)
    store = open_store(path)
    assert there <= intact_rows(store)[Lane.ROUTINE]
    store.close()


@pytest.mark.parametrize("known", [False, True], ids=["unnoticed", "noticed"])
@pytest.mark.parametrize(
    "flip",
    [
        *(
            f"ledger SET {column} = {value}"
            for column in ("last_number", "removed", "delivered_routine", "lost")
            for value in ("NULL", "'x'", "x'01'")
        ),
        "envelopes SET message = NULL",
        "envelopes SET message = 'x'",
        "envelopes SET created_ms = NULL",
        "envelopes SET delivered = x'01'",
        "alarms SET sealed = NULL",
        "alarms SET sealed = 'x'",
        "alarms SET updated_ms = NULL",
        "delivered_keys SET keys = NULL",
        "delivered_keys SET number = 'x'",
    ],
)
async def test_a_value_that_became_of_another_type_keeps_no_gateway_from_its_start(
    path: Path, start: Callable[..., Awaitable[Running]], flip: str, known: bool
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '')")
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute(f"UPDATE {flip}")
    connection.close()
    if known:
        damage_note(path).touch()
    running = await start(open_store=open_store)
    writer = running.writer
    assert all(type(sealed) is bytes for _, sealed in await writer.alarms())
    for kept in await writer.envelopes(Lane.ROUTINE, [bytes([n]) * 16 for n in range(50)]):
        assert type(kept.message) is bytes
    await writer.recent_keys()
    status = writer.status()
    assert (status.lanes[Lane.EMERGENCY].rows, status.dead, status.lost) == (EMERGENCIES, 1, 0)
    assert status.lanes[Lane.ROUTINE].rows == ROUTINE - 1 - DELIVERED
    assert running.failures == []
