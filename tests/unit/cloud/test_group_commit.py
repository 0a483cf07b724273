"""The thread behind the SQLite store: what shares a commit, and what ends it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from cloud.group_commit import QUEUE, WRITES_A_TURN, GroupCommit
from cloud.store import StoreBusy, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SCHEMA = "CREATE TABLE things (name TEXT UNIQUE);"


class Rig:
    """A database and what it complained of."""

    def __init__(self, path: Path) -> None:
        self.failures: list[Exception] = []
        self.database = GroupCommit(path, SCHEMA, self.failures.append)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "things.db")
    await made.database.open()
    yield made
    await made.database.close()


def insert(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute("INSERT INTO things VALUES (?)", (name,)).rowcount


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")]


class Gate:
    """Holds the thread, so that what is queued meanwhile is known."""

    def __init__(self) -> None:
        self._inside = threading.Event()
        self._go = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self._inside.set()
        assert self._go.wait(10)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._inside.wait, 10)

    def open(self) -> None:
        self._go.set()


async def test_what_waits_is_one_transaction(rig: Rig) -> None:
    """Everything queued while the thread was busy is committed together."""
    statements: list[str] = []
    await rig.database.read(lambda connection: connection.set_trace_callback(statements.append))
    gate = Gate()
    held = asyncio.create_task(rig.database.read(gate))
    await gate.reached()
    tasks = [
        asyncio.create_task(rig.database.write(lambda c, n=number: insert(c, f"n{n}")))
        for number in range(5)
    ]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(held, *tasks)
    kinds = [statement.split()[0] for statement in statements]
    assert kinds == ["BEGIN", *["INSERT"] * 5, "COMMIT"]


async def test_what_is_urgent_goes_first_in_a_transaction_of_its_own(rig: Rig) -> None:
    """And what is not is cut into short transactions."""
    statements: list[str] = []
    await rig.database.read(lambda connection: connection.set_trace_callback(statements.append))
    gate = Gate()
    held = asyncio.create_task(rig.database.read(gate))
    await gate.reached()
    tasks = [
        asyncio.create_task(rig.database.write(lambda c, n=number: insert(c, f"n{n}")))
        for number in range(WRITES_A_TURN + 1)
    ]
    tasks.append(asyncio.create_task(rig.database.write(lambda c: insert(c, "u"), urgent=True)))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(held, *tasks)
    assert "VALUES ('u')" in statements[1]
    groups = " ".join(statement.split()[0] for statement in statements).split("COMMIT")
    assert [group.count("INSERT") for group in groups] == [1, WRITES_A_TURN, 1, 0]


async def test_sync_is_full_and_the_file_is_private(rig: Rig, tmp_path: Path) -> None:
    """Durable before the answer; for the store's user alone; nobody else can open it."""

    def pragmas(connection: sqlite3.Connection) -> tuple[object, ...]:
        return tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode")
        )

    assert await rig.database.read(pragmas) == ("wal", 2, "exclusive")
    assert stat.S_IMODE(os.stat(tmp_path / "things.db").st_mode) == 0o600
    second = Rig(tmp_path / "things.db")
    with pytest.raises(StoreError, match="locked"):
        await second.database.open()


async def test_a_full_disk_refuses_the_write_and_reading_goes_on(rig: Rig) -> None:
    """Rolled back as a whole; once there is room, it goes on."""

    def shrink(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 4")

    await rig.database.read(shrink)
    with pytest.raises(StoreFull):
        await rig.database.write(lambda connection: insert(connection, "x" * 100_000))
    assert await rig.database.read(names) == []
    await rig.database.write(lambda connection: insert(connection, "small"))
    assert await rig.database.read(names) == ["small"]
    assert rig.failures == []


async def test_any_other_error_ends_it_for_everybody(rig: Rig) -> None:
    """After a failed write no later success is believed: nothing is answered any more."""
    await rig.database.write(lambda connection: insert(connection, "first"))
    with pytest.raises(StoreError, match="UNIQUE"):
        await rig.database.write(lambda connection: insert(connection, "first"))
    assert len(rig.failures) == 1
    for call in (rig.database.write, rig.database.read):
        with pytest.raises(StoreError, match="has failed"):
            await call(names)


async def test_one_failure_fails_the_whole_transaction(rig: Rig) -> None:
    """Nobody is told that something is stored which was rolled back."""
    gate = Gate()
    held = asyncio.create_task(rig.database.read(gate))
    await gate.reached()
    tasks = [
        asyncio.create_task(rig.database.write(lambda c, name=name: insert(c, name)))
        for name in ("a", "b", "a")
    ]
    await asyncio.sleep(0)
    gate.open()
    await held
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError] * 3


async def test_the_queue_is_capped(rig: Rig) -> None:
    """A crowd is told to come back; those who wait are served."""
    gate = Gate()
    held = asyncio.create_task(rig.database.read(gate))
    await gate.reached()
    waiting = [asyncio.create_task(rig.database.write(names)) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await rig.database.write(names)
    gate.open()
    await asyncio.gather(held, *waiting)


async def test_a_caller_who_leaves_does_not_take_others_along(rig: Rig) -> None:
    """A client's broken connection cancels its request, not the transaction."""
    gate = Gate()
    held = asyncio.create_task(rig.database.read(gate))
    await gate.reached()
    leaving, staying = (
        asyncio.create_task(rig.database.write(lambda c, name=name: insert(c, name)))
        for name in ("leaving", "staying")
    )
    await asyncio.sleep(0)
    leaving.cancel()
    gate.open()
    assert await staying == 1
    await held
    assert await rig.database.read(names) == ["leaving", "staying"]


async def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    """And refuses what comes later."""
    made = Rig(tmp_path / "things.db")
    await made.database.open()
    task = asyncio.create_task(made.database.write(lambda connection: insert(connection, "last")))
    await asyncio.sleep(0)
    await made.database.close()
    assert await task == 1
    with pytest.raises(StoreError, match="closed"):
        await made.database.read(names)


async def test_a_database_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """A later program's data is left alone, with a reason."""
    connection = sqlite3.connect(tmp_path / "things.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match="schema 7"):
        await Rig(tmp_path / "things.db").database.open()


async def test_what_is_no_database_is_said_so(tmp_path: Path) -> None:
    """Also a folder that is not there."""
    (tmp_path / "things.db").write_bytes(b"not a database" * 100)
    for path in (tmp_path / "things.db", tmp_path / "missing" / "things.db"):
        with pytest.raises(StoreError, match=r"things\.db"):
            await Rig(path).database.open()
