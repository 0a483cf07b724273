"""When the database is damaged: what can be read goes into a new one, emergencies first.

The damaged files are kept beside it. Rows are read by ranges of their numbers: a range that fails,
or in which anything is not as it was written, is halved down to single numbers. So around a smashed
page only what lies on that page is given up. SQLite reads rubbish as rows with any numbers, and one
that is too high looks like the end: so a range must end with the same row seen from both sides.
The number of tries is bounded: a gateway that does not start saves nobody.

Crash-safe: the new file is built under another name, renamed when it is complete, and only then
do the files change places; a start after a crash anywhere in between goes on or begins again.

Rejected: a plain scan (ends at the first bad page), and SQLite's own recovery extension (not part
of Python's SQLite).
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError, OutboxCorrupt, OutboxError
from gateway.lane import Lane
from gateway.outbox import queries
from gateway.outbox.ballast import Ballast
from gateway.outbox.connection import all_numbers, damage_note, is_full
from gateway.outbox.connection import connect as connect_sqlite
from gateway.outbox.mark import Mark
from gateway.outbox.row import LAST_NUMBER, intact
from gateway.outbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.outbox.connection import Connection

_CHUNK = 1000
_FAILED_TRIES = 50_000
"""About a second: twice the rows below one smashed inner page, each asked for alone."""


def open_store(path: Path, *, connect: Callable[[Path], Connection] = connect_sqlite) -> Store:
    """Open the outbox; if it is damaged, keep the damaged files and go on with what is readable.

    What was lost is counted in the store, and said in its ``notice``. On a full disk the ballast is
    given up for it.

    Raises:
        OutboxError: in use, or cannot be opened for another reason.
    """
    try:
        try:
            return _open(path, connect)
        except (GatewayError, sqlite3.Error, OSError) as error:
            if not (_is_full(error) and Ballast(path).give_up()):
                raise
            return _open(path, connect)
    except OutboxError as error:
        if not _is_full(error):
            raise
        raise OutboxError(f"{error}; make room on its disk") from error
    except (sqlite3.Error, OSError) as error:
        mend = "make room on its disk" if _is_full(error) else "see to its disk and folder"
        raise OutboxError(f"{path}: cannot be opened: {error}; {mend}") from error


def _is_full(error: BaseException) -> bool:
    return any(
        is_full(one) or (isinstance(one, OSError) and one.errno == errno.ENOSPC)
        for one in (error, error.__cause__)
    )


def _open(path: Path, connect: Callable[[Path], Connection]) -> Store:
    note = damage_note(path)
    if not note.exists():
        try:
            return Store(path, connect=connect)
        except OutboxCorrupt:
            note.touch()
    complete = path.with_name(path.name + "-salvaged.db")
    if not complete.exists():
        _rebuild(path, complete, connect)
    aside = _swap(path, complete)
    note.unlink()
    store = Store(path, connect=connect)
    store.notice = (
        f"the database was damaged: {sum(store.rows.values())} entries were saved, "
        f"{store.lost} are lost since it was made; the damaged one is kept as {aside.name}"
    )
    return store


def _swap(path: Path, complete: Path) -> Path:
    """Damaged files out of the way, the log first: it must not meet the new database."""
    n = 1
    while (aside := path.with_name(f"{path.name}-damaged-{n}")).exists():
        n += 1
    for old, new in (
        (path.with_name(path.name + "-wal"), aside.with_name(aside.name + "-wal")),
        (path, aside),
        (complete.with_suffix(".mark"), path.with_suffix(".mark")),
        (complete, path),
    ):
        with suppress(FileNotFoundError):  # done before a crash
            old.rename(new)
    return aside


def _rebuild(path: Path, complete: Path, connect: Callable[[Path], Connection]) -> None:
    building = complete.with_name(complete.name + "-unfinished")
    for leftover in (*path.parent.glob(building.name + "*"), building.with_suffix(".mark")):
        leftover.unlink(missing_ok=True)
    mark = Mark(path.with_suffix(".mark"))
    promise = mark.read()
    mark.close()
    damaged = connect(path)
    try:
        _execute(damaged, "PRAGMA locking_mode = EXCLUSIVE")
        store = Store(building, connect=connect)
        store.begin()
        ledger = next(filter(all_numbers, _execute(damaged, queries.LEDGER)), None)
        for epoch, created_ms, message, delivered in _walk(damaged, "envelopes", "epoch"):
            if isinstance(message, bytes) and all_numbers((created_ms, delivered)):
                store.envelopes.adopt(epoch, created_ms, message, delivered)
        for id_, sealed, updated_ms in _walk(damaged, "alarms", "id"):
            if isinstance(sealed, bytes) and all_numbers((updated_ms,)):
                store.alarms.keep([(id_, sealed)], [], updated_ms)
        for lane in Lane:
            sql = queries.RANGE[lane], queries.LAST[lane]
            for rows in _ranges(damaged, sql, partial(_is_intact, lane)):
                store.adopt(lane, rows)
        for rows in _ranges(damaged, (queries.DEAD_RANGE, queries.DEAD_LAST), _is_letter):
            store.adopt_dead([row for row in rows if _is_letter(row)])
        store.resume(ledger, promise)
        store.commit()
        store.close()
    finally:
        damaged.close()
    building.with_suffix(".mark").rename(complete.with_suffix(".mark"))
    building.rename(complete)


def _execute(
    connection: Connection, sql: str, parameters: tuple[object, ...] = ()
) -> list[tuple[Any, ...]]:
    """Empty if what it asks for cannot be read."""
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise OutboxError("the damaged outbox is in use by a running gateway") from error
        return []


def _ranges(
    connection: Connection, sql: tuple[str, str], sound: Callable[[tuple[Any, ...]], bool]
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in the order of their numbers, around whatever cannot be read. One that is not sound
    comes alone, and only under the number that was asked for. ``sql``: a range, and its last."""
    failed = 0
    stack = [(0, LAST_NUMBER)]
    while stack and failed < _FAILED_TRIES:
        low, high = stack.pop()
        # Not a step further than asked for: the next row may lie on the smashed page.
        limit = min(_CHUNK, high - low + 1)
        rows: list[tuple[Any, ...]] = []
        try:
            rows = connection.execute(sql[0], (low, high, limit)).fetchall()
            whole = _in_order(rows, low, high)
            if low < high:
                last = connection.execute(sql[1], (low, high)).fetchone() or (low - 1,)
                end = rows[-1][0] if rows else low - 1
                all_there = last[0] == end or (len(rows) == limit and last[0] > end)
                whole = whole and all_there and all(map(sound, rows))
        except sqlite3.DatabaseError:
            whole = False
        if not whole:
            failed += 1
            if low < high:
                middle = (low + high) // 2
                stack += [(middle + 1, high), (low, middle)]
            continue
        if len(rows) == limit and rows[-1][0] < high:
            stack.append((rows[-1][0] + 1, high))
        if rows:
            yield rows


def _in_order(rows: Sequence[tuple[Any, ...]], low: int, high: int) -> bool:
    numbers = [low - 1, *(row[0] for row in rows), high + 1]
    return all(before < after for before, after in pairwise(numbers))


def _is_intact(lane: Lane, row: tuple[Any, ...]) -> bool:
    return intact(lane, *row)


def _is_letter(row: tuple[Any, ...]) -> bool:
    _, lane, _, reason, at_ms = row
    return lane in tuple(Lane) and isinstance(reason, str) and isinstance(at_ms, int)


def _walk(connection: Connection, table: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a small table: from its start until one fails, then from its end."""
    columns = queries.SMALL_TABLES[table]
    seen: set[bytes] = set()
    for condition, order, at in (("> ?", "ASC", b""), ("< ?", "DESC", b"\xff" * 32)):
        where = f"WHERE {key} {condition} ORDER BY {key} {order} LIMIT 1"
        sql = f"SELECT {columns} FROM {table} {where}"
        while (rows := _execute(connection, sql, (at,))) and rows[0][0] not in seen:
            at = rows[0][0]
            seen.add(at)
            yield rows[0]
