"""The seam to SQLite: what the store asks of a connection, and the connection of this Python.

Another SQLite (one with a virtual file system that cuts the power, for a test) comes in here.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import OutboxCorrupt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Cursor(Protocol):
    @property
    def rowcount(self) -> int: ...  # of a DELETE
    def fetchone(self) -> tuple[Any, ...] | None: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...


class Connection(Protocol):
    """Autocommit: transactions are begun and ended by statements."""

    def execute(self, sql: str, parameters: Sequence[object] = ..., /) -> Cursor: ...
    def close(self) -> None: ...


def connect(path: Path) -> Connection:
    """Raises sqlite3.OperationalError if the file cannot be opened."""
    # The thread that opens is not always the one that closes: a failed start is cleaned up by
    # the caller. Use is serial all the same.
    connection: Connection = sqlite3.connect(
        path, timeout=2.0, isolation_level=None, check_same_thread=False
    )
    return connection


def means_damage(error: BaseException) -> bool:
    """Whether the file is damaged, as opposed to a disk that fails or is full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damage_note(path: Path) -> Path:
    """A file whose presence says that the outbox at ``path`` is not to be trusted."""
    return path.with_suffix(".damaged")


def ask(connection: Connection, sql: str, parameters: Sequence[object] = ()) -> Any:  # noqa: ANN401
    """The first column of the only row. Raises OutboxCorrupt if there is no row."""
    return ask_row(connection, sql, parameters)[0]


def ask_row(connection: Connection, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
    """The only row. Raises OutboxCorrupt if there is none."""
    row = connection.execute(sql, parameters).fetchone()
    if row is None:
        raise OutboxCorrupt(f"no answer to {sql!r}")
    return row


def all_numbers(row: Sequence[object]) -> bool:
    """A flipped bit can make an integer NULL, text or a blob."""
    return all(isinstance(one, int) for one in row)


def is_full(error: BaseException | None) -> bool:
    """Whether SQLite found no room on the disk. What it has written counts for nothing then."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_FULL
