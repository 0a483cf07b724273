"""gateway.outbox.clerk, writer and salvage when SQLite finds no room on the disk"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.cose.envelope import Envelope
from gateway.errors import OutboxError, OutboxFull
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.connection import connect
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from gateway.outbox.connection import Connection, Cursor
    from gateway.outbox.entry import Entry
    from gateway.outbox.writer import Writer
    from tests.unit.outbox.conftest import Running

    Start = Callable[..., Awaitable[Running]]
    Make = Callable[..., Entry]

EVERYTHING = 1 << 62


class Disk:
    """Full until the ballast is given up."""

    def __init__(self, path: Path) -> None:
        self.full = False
        self._ballast = path.with_suffix(".ballast")

    def connect(self, path: Path) -> Connection:
        return Limited(self, connect(path))

    def check(self) -> None:
        if self.full and self._ballast.exists():
            raise _no_room()

    def check_hard(self) -> None:
        if self.full:
            raise _no_room()


class Limited:
    """What SQLite does on a full disk: it fails when it is to write, here at the COMMIT."""

    def __init__(self, disk: Disk, inner: Connection) -> None:
        self._disk = disk
        self._inner = inner
        self.close = inner.close

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if sql == "COMMIT" or "checkpoint(" in sql:
            self._disk.check()
        return self._inner.execute(sql, parameters)


def _no_room() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class Crammed(Disk):
    """One on which giving up the ballast does not help either."""

    check = Disk.check_hard


def opener(disk: Disk) -> Callable[[Path], Store]:
    return lambda path: Store(path, connect=disk.connect)


async def rows(writer: Writer, lane: Lane) -> list[bytes]:
    leased = await writer.lease(lane, 1000, EVERYTHING, now=0.0)
    return [one.entry.id for one in leased]


async def test_an_emergency_is_stored_with_the_room_of_the_ballast(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "outbox.db")
    running = await start(open_store=opener(disk))
    assert (tmp_path / "outbox.ballast").exists()
    disk.full = True
    running.writer.submit([make_entry(Lane.EMERGENCY)], [], "urgent")
    await running.writer.flush()
    assert (running.tokens, running.refused, running.failures) == (["urgent"], [], [])


async def test_routine_is_refused_and_nothing_else_changes(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "outbox.db")
    running = await start(open_store=opener(disk))
    kept = make_entry()
    running.writer.submit([kept], [], "before")
    await running.writer.flush()
    before = running.writer.status()
    disk.full = True
    running.writer.submit([make_entry()], [], "during")
    await running.writer.flush()
    assert (running.tokens, running.refused, running.failures) == (["before"], ["during"], [])
    after = running.writer.status()
    assert (after.last_number, after.size) == (before.last_number, before.size)
    assert await rows(running.writer, Lane.ROUTINE) == [kept.id]


async def test_the_envelope_of_what_was_refused_is_kept(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    """Its epoch is in use: what is sealed next with it brings no envelope."""
    disk = Crammed(tmp_path / "outbox.db")
    running = await start(open_store=opener(disk))
    disk.full = True
    epoch = b"e" * 16
    envelope = Envelope(epoch, "gw", b"p" * 16, Lane.ROUTINE, 1, (), b"m")
    running.writer.submit([make_entry()], [envelope], "refused")
    await running.writer.flush()
    assert running.refused == ["refused"]
    disk.full = False
    running.writer.submit([make_entry()], [], "taken")
    await running.writer.flush()
    assert running.tokens == ["taken"]
    assert [one.epoch for one in await running.writer.envelopes(Lane.ROUTINE, [epoch])] == [epoch]


async def test_what_is_delivered_is_deleted_as_soon_as_there_is_room(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    disk = Crammed(tmp_path / "outbox.db")
    running = await start(open_store=opener(disk))
    writer = running.writer
    writer.submit([make_entry() for _ in range(20)], [], 1)
    [first, *_] = await writer.lease(Lane.ROUTINE, 1, EVERYTHING, now=0.0)
    writer.keep_alarms([(b"a" * 16, b"sealed")], [])
    await writer.flush()
    disk.full = True
    writer.settle(Lane.ROUTINE, done=[first.number])
    writer.keep_alarms([], [b"a" * 16])
    assert await rows(writer, Lane.ROUTINE) == [], "or what is delivered would pile up in memory"
    assert writer.status().lanes[Lane.ROUTINE].rows == 20
    writer.woken(Lane.ROUTINE).clear()
    disk.full = False
    async with asyncio.timeout(10):
        await writer.woken(Lane.ROUTINE).wait()
    assert len(await rows(writer, Lane.ROUTINE)) == 19
    assert await writer.alarms() == []
    assert writer.status().lanes[Lane.ROUTINE].delivered == 1
    assert running.failures == []


class Cramped(Limited):
    """Deletes find room before inserts do."""

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if sql.startswith("INSERT INTO emergency"):
            raise _no_room()
        return super().execute(sql, parameters)


async def test_a_pump_that_was_told_of_nothing_hears_when_a_refusal_made_room(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    disk = Crammed(tmp_path / "outbox.db")
    running = await start(
        open_store=lambda path: Store(path, connect=lambda at: Cramped(disk, connect(at)))
    )
    writer = running.writer
    writer.submit([make_entry() for _ in range(2)], [], 1)
    [first] = await writer.lease(Lane.ROUTINE, 1, EVERYTHING, now=0.0)
    disk.full = True
    writer.settle(Lane.ROUTINE, done=[first.number])
    assert await rows(writer, Lane.ROUTINE) == []
    writer.woken(Lane.ROUTINE).clear()
    disk.full = False
    writer.submit([make_entry(Lane.EMERGENCY)], [], "refused")
    async with asyncio.timeout(10):
        await writer.woken(Lane.ROUTINE).wait()
    assert running.refused == ["refused"]
    assert len(await rows(writer, Lane.ROUTINE)) == 1


async def test_a_question_that_needs_room_is_refused(
    start: Start, make_entry: Make, tmp_path: Path
) -> None:
    disk = Crammed(tmp_path / "outbox.db")
    running = await start(open_store=opener(disk))
    running.writer.submit([make_entry()], [], 1)
    [one] = await running.writer.lease(Lane.ROUTINE, 1, EVERYTHING, now=0.0)
    running.writer.settle(Lane.ROUTINE, dead=[(one.number, "no")])
    await running.writer.flush()
    disk.full = True
    with pytest.raises(OutboxFull):
        await running.writer.retry_dead([one.number])
    with pytest.raises(OutboxFull):
        await running.writer.drop_dead([one.number])
    disk.full = False
    assert await running.writer.retry_dead([one.number]) == 1
    assert len(await rows(running.writer, Lane.ROUTINE)) == 1


async def test_it_is_said_once_in_the_log_and_stands_in_the_status(
    start: Start, make_entry: Make, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start(Config(max_bytes=1 << 60, reserve_bytes=1 << 59))
    for _ in range(3):
        running.writer.submit([make_entry(Lane.EMERGENCY)], [], 1)
        await running.writer.flush()
    assert "only emergencies" in running.writer.status().notice
    told = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert len(told) == 1
    assert str(running.path) in told[0].getMessage()


def test_a_start_on_a_full_disk_uses_the_ballast(tmp_path: Path, make_entry: Make) -> None:
    path = tmp_path / "outbox.db"
    store = Store(path)
    store.ballast.keep(1 << 30)
    store.begin()
    store.add(Lane.ROUTINE, [make_entry()])
    store.commit()
    store.close()
    disk = Disk(path)
    disk.full = True
    store = open_store(path, connect=disk.connect)
    assert store.rows[Lane.ROUTINE] == 1
    assert not store.ballast.give_up(), "it is given up already"
    store.abandon()


def test_a_start_without_any_room_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    disk = Crammed(path)
    disk.full = True
    with pytest.raises(OutboxError, match=r"outbox\.db.*full; make room on its disk"):
        open_store(path, connect=disk.connect)
