"""The outbox of a gateway that does not run, for a look or a change before it does."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.errors import OutboxError
from gateway.outbox.salvage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.outbox.store import Store


@contextmanager
def offline(path: Path) -> Iterator[Store]:
    """The store, closed with the block; what the block has not committed is not there.

    Raises OutboxError: in use, or it cannot be opened, read or written.
    """
    store: Store | None = None
    try:
        store = open_store(path)
        yield store
        store.close()
    except BaseException as error:
        if store is not None:
            store.distrust(error)
            store.abandon()
        if isinstance(error, (sqlite3.Error, OSError)):
            raise OutboxError(f"{path}: cannot be used: {error}") from error
        raise
