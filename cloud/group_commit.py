"""One thread that owns the only connection to an SQLite database.

Why one connection for writing and reading: before 3.51.3 SQLite could corrupt a database in WAL
mode when two connections wrote or checkpointed at once, and the system decides which SQLite the
standard library has. With ``locking_mode = EXCLUSIVE`` there can be no second one, and a reader
that was left open cannot keep the WAL from being checkpointed.

How it keeps up: everything that was queued for writing while the previous commit was being synced
becomes the next transaction. One ``fsync`` serves all callers that wait, and a lone caller waits
for nobody. What is urgent has a queue and transactions of its own, which go first; other
transactions and the reads between them are kept short, so that it waits for one of them at most.

Nothing is answered before COMMIT has returned, and COMMIT syncs (``synchronous = FULL``, set and
read back). After a failed ``fsync`` the kernel may call lost pages clean, so a later success means
nothing: any error but a full disk ends this thread for good, and the process with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cloud.store import StoreBusy, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

QUEUE = 256
"""Most calls waiting at once, of each kind. A gateway has two connections, each with one request
at a time: more than this is a crowd that does better to come back."""

READS_A_TURN = 4
"""Reads between two transactions."""

WRITES_A_TURN = 8
"""Calls in one transaction: eight batches of 500 records take some 40 ms, the sync included."""

_SYNCHRONOUS_FULL = 2


class _Call(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    value: Any
    error: Exception | None


class GroupCommit:
    """Start with :meth:`open`; ``write`` and ``read`` from the event loop only."""

    def __init__(self, path: Path, schema: str, on_failure: Callable[[Exception], None]) -> None:
        self._path = path
        self._schema = schema
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._urgent: deque[_Call] = deque()
        self._writes: deque[_Call] = deque()
        self._reads: deque[_Call] = deque()
        self._closing = False
        self._failure: Exception | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="cloud-store", daemon=True)

    async def open(self) -> None:
        """Make or check the database. Raises StoreError that says what is wrong with it."""
        self._thread.start()
        await self._opened

    async def write(self, run: Callable[[sqlite3.Connection], T], *, urgent: bool = False) -> T:
        """Run inside a transaction shared with others; returns after its COMMIT.

        ``run`` must decide before it changes anything: there is no way back for one caller alone.
        """
        return await self._submit(self._urgent if urgent else self._writes, run)

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run between transactions."""
        return await self._submit(self._reads, run)

    async def close(self) -> None:
        """Everything that waits is still done."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await self._closed
        self._thread.join()

    async def _submit(self, queue: deque[_Call], run: Callable[[sqlite3.Connection], T]) -> T:
        if self._failure is not None:
            raise StoreError(f"the store has failed: {self._failure}")
        answer: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise StoreError("the store is closed")
            if len(queue) >= QUEUE:
                raise StoreBusy("too many requests are waiting for the store")
            queue.append(_Call(run, answer))
            self._wake.notify()
        # A client that left must not take a transaction with it that others share.
        return await asyncio.shield(answer)

    # From here on: the thread.

    def _run(self) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError, StoreError) as error:
            self._tell(self._settle_opening, StoreError(f"{self._path}: {error}"))
            return
        self._tell(self._settle_opening, None)
        try:
            while self._turn(connection):
                pass
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            self._tell(self._closed.set_result, None)

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        # The name of a new file is durable only when its folder is.
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if mode != "wal" or synchronous != _SYNCHRONOUS_FULL:
            raise StoreError(f"SQLite refused WAL with FULL: has {mode}, {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(
                f"BEGIN EXCLUSIVE;\n{self._schema}\nPRAGMA user_version = 1;\nCOMMIT;"
            )
        elif version != 1:
            raise StoreError(f"made by another version of this program (schema {version})")

    def _turn(self, connection: sqlite3.Connection) -> bool:
        with self._wake:
            while not (self._urgent or self._writes or self._reads or self._closing):
                self._wake.wait()
            if not (self._urgent or self._writes or self._reads):
                return False
            writes = _take(self._urgent or self._writes, WRITES_A_TURN)
            reads = _take(self._reads, READS_A_TURN)
        if self._failure is not None:
            gone = StoreError(f"the store has failed: {self._failure}")
            self._tell(self._give, [_Answer(call.answer, None, gone) for call in (*writes, *reads)])
            return True
        if writes:
            self._tell(self._give, self._commit(connection, writes))
        if reads:
            self._tell(self._give, [self._look(connection, call) for call in reads])
        return True

    def _commit(self, connection: sqlite3.Connection, calls: list[_Call]) -> list[_Answer]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            values = [call.run(connection) for call in calls]
            connection.execute("COMMIT")
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            refusal = self._judge(error)
            return [_Answer(call.answer, None, refusal) for call in calls]
        return [
            _Answer(call.answer, value, None) for call, value in zip(calls, values, strict=True)
        ]

    def _look(self, connection: sqlite3.Connection, call: _Call) -> _Answer:
        try:
            return _Answer(call.answer, call.run(connection), None)
        except Exception as error:
            return _Answer(call.answer, None, self._judge(error))

    def _judge(self, error: Exception) -> StoreFull | StoreError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return StoreFull("no room left for the database")
        self._failure = error
        self._tell(self._on_failure, error)
        return StoreError(f"the store has failed: {error}")

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        # The loop is closed only if the program ended without closing the store.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    # From here on: the event loop again.

    def _settle_opening(self, error: Exception | None) -> None:
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _give(self, answers: list[_Answer]) -> None:
        for future, value, error in answers:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


def _take(calls: deque[_Call], limit: int) -> list[_Call]:
    return [calls.popleft() for _ in range(min(limit, len(calls)))]
