"""Which messages came lately: a node that reconnects, or a gateway that restarts, meets them again.

The keys of entries that wait are in their rows. Those of delivered entries are kept for a while in
a table of their own, one row a settlement, so that keeping them costs one insert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.lane import Lane
from gateway.outbox import queries
from gateway.outbox.connection import ask
from gateway.outbox.row import intact, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.outbox.connection import Connection
    from gateway.outbox.entry import Entry

KEPT_KEYS = 65_536
"""Keys of delivered messages that are kept: 1 MiB; a re-send after a reconnect comes sooner."""

_KEY_SIZE = 16


class Keys:
    """Of delivered entries, written; of all entries, read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        sizes = connection.execute(queries.KEYS_SIZES).fetchall()
        self._settlements: list[tuple[int, int]] = [(id_, size // _KEY_SIZE) for id_, size in sizes]
        """(id of the row, how many keys are in it), oldest first."""

        self._kept = sum(count for _, count in self._settlements)

    def keep(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Keys of entries that leave their lane, delivered; the oldest ones are forgotten."""
        keys = b"".join([entry[6] for _, entry in entries if entry[6] is not None])
        if not keys:
            return
        highest = max([number for number, _ in entries])
        self._connection.execute(queries.KEYS_INSERT, (highest, keys))
        count = len(keys) // _KEY_SIZE
        self._settlements.append((ask(self._connection, "SELECT last_insert_rowid()"), count))
        self._kept += count
        self._forget()

    def _forget(self) -> None:
        last = None
        while self._kept - self._settlements[0][1] >= KEPT_KEYS:
            last, count = self._settlements.pop(0)
            self._kept -= count
        if last is not None:
            self._connection.execute(queries.KEYS_DELETE, (last,))

    def recent(self) -> list[bytes]:
        """The last :data:`KEPT_KEYS` keys, of waiting and of delivered entries, oldest first."""
        execute = self._connection.execute
        found: list[tuple[int, bytes]] = []
        for lane in Lane:
            for number, blob in execute(queries.NEWEST[lane], (KEPT_KEYS,)).fetchall():
                if intact(lane, number, blob) and (key := unpack(lane, blob).key) is not None:
                    found.append((number, key))
        for number, keys in execute(queries.KEYS).fetchall():
            found += ((number, keys[at : at + _KEY_SIZE]) for at in range(0, len(keys), _KEY_SIZE))
        found.sort(key=lambda item: item[0])
        return [key for _, key in found[-KEPT_KEYS:]]
