"""The outbox does not wait for the disk: SQLite's ``synchronous = NORMAL``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gateway.cli import main
from gateway.outbox import configuring, store

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.outbox.connection import Connection

_configure = configuring.configure


def _normal(connection: Connection, path: Path) -> None:
    _configure(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")


store.configure = _normal

if __name__ == "__main__":
    sys.exit(main())
