"""Makes a connection as safe as SQLite can be, and sees to it that the tables are there.

Write-ahead log with ``synchronous = FULL``, set and read back: ``NORMAL`` loses acknowledged rows
in a power cut. ``locking_mode = EXCLUSIVE``: one connection, so no shared memory file, no reader
that keeps the log growing, and a second process is turned away.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from typing import TYPE_CHECKING

from gateway.errors import OutboxCorrupt, OutboxError
from gateway.outbox.ballast import share
from gateway.outbox.connection import ask

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.outbox.connection import Connection

_VERSION = 1
_LOG_BYTES = 8 << 20


def configure(connection: Connection, path: Path) -> None:
    """The first thing to do with a connection; ``path`` is for the words of an error.

    Raises:
        OutboxError: another process has it open, it was written by a newer program, or this
            SQLite does not keep what is acknowledged.
        OutboxCorrupt: it is not readable as an outbox.
    """
    try:
        # First of all: in WAL mode a later switch would leave the shared memory file in use.
        ask(connection, "PRAGMA locking_mode = EXCLUSIVE")
        mode = ask(connection, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        log = min(_LOG_BYTES, share(path.parent))
        connection.execute(f"PRAGMA journal_size_limit = {log}")
        # Half of it: what a transaction adds comes on top.
        pages = log // 2 // ask(connection, "PRAGMA page_size")
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        # Debian's SQLite overwrites what it deletes, by a page written for each page freed. What
        # lies in a row is sealed.
        ask(connection, "PRAGMA secure_delete = OFF")
        connection.execute("BEGIN IMMEDIATE")
        version = ask(connection, "PRAGMA user_version")
        if version == 0:
            _make_schema(connection)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutboxError(
                f"{path}: in use by a running gateway; ask it, or stop it first"
            ) from error
        raise OutboxError(f"{path}: cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise OutboxCorrupt(f"{path}: {error}") from error
    if version not in (0, _VERSION):
        raise OutboxError(
            f"{path}: version {version}, this program knows {_VERSION}; "
            "it was written by a newer one"
        )
    # 2 is FULL. A build or a file system that answers otherwise must not acknowledge.
    if mode != "wal" or ask(connection, "PRAGMA synchronous") != 2:
        raise OutboxError(
            f"{path}: SQLite does not keep journal_mode = WAL with synchronous = FULL"
        )


def _make_schema(connection: Connection) -> None:
    script = resources.files("gateway.outbox").joinpath("schema.sql").read_text("utf-8")
    code = "\n".join(line.partition("--")[0] for line in script.splitlines())
    for statement in code.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")
