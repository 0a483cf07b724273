"""Entries, dead letters, and the small tables beside them, in one SQLite file.

**Durable.** What :mod:`gateway.outbox.configuring` sees to: a commit that returned is on disk.

**Checked.** Each row has a checksum (SQLite has none, and its ``integrity_check`` does not look
into a blob). The ledger says how many rows must be there, the mark beside the database says
how far the ledger must have come. What is missing or damaged is counted, never skipped in
silence.

Rejected: a row a burst (partial settlement would need rows rewritten); an index on the lane (each
insert pays, and two tables separate better); ``AUTOINCREMENT`` (writes its counter once a row).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

from gateway.errors import OutboxCorrupt, OutboxError
from gateway.lane import Lane
from gateway.outbox import queries
from gateway.outbox.ballast import Ballast
from gateway.outbox.configuring import configure
from gateway.outbox.connection import all_numbers, ask, ask_row, damage_note, means_damage
from gateway.outbox.connection import connect as connect_sqlite
from gateway.outbox.entry import DeadLetter, Entry
from gateway.outbox.envelopes import Alarms, Envelopes
from gateway.outbox.keys import Keys
from gateway.outbox.mark import Mark
from gateway.outbox.reckoning import reckon
from gateway.outbox.row import CELL_BYTES, ROW_OVERHEAD, intact, pack_rows, runs, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gateway.outbox.connection import Connection, Cursor

DAMAGED = "damaged on disk: checksum"

_FAR = 1 << 32
"""More numbers than an outbox gives out between two rows that are still there."""


class Store:
    """One connection to the outbox's file, for one thread at a time.

    Writing methods belong between :meth:`begin` and :meth:`commit`. Whatever raises
    sqlite3.Error or OSError leaves the store unusable: abandon it, acknowledge nothing.
    """

    def __init__(
        self, path: Path, *, connect: Callable[[Path], Connection] = connect_sqlite
    ) -> None:
        """Open or make the file, with its mark beside it. Counts what is there: linear.

        Raises:
            OutboxError: another process has it open, or it cannot be made.
            OutboxCorrupt: it is not readable as an outbox.
        """
        self.path = path
        self.notice = ""
        """What people must know about how it was opened."""
        self.ballast = Ballast(path)
        self.commits = 0
        try:
            # SQLite gives its log the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = connect(path)
            self._mark = Mark(path.with_suffix(".mark"))
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(f"{path}: cannot be opened: {error}") from error
        try:
            configure(self._connection, path)
            self._load()
            self._find_losses()
        except BaseException as error:
            self._connection.close()
            self._mark.close()
            if isinstance(error, sqlite3.Error | OSError):
                kind = OutboxCorrupt if means_damage(error) else OutboxError
                raise kind(f"{path}: cannot be opened: {error}") from error
            raise

    def _load(self) -> None:
        try:
            self._page_size: int = self._ask("PRAGMA page_size")
            ledger = ask_row(self._connection, queries.LEDGER)
            if not all_numbers(ledger):
                raise OutboxCorrupt("the ledger holds what is no number")
            totals = {lane: ask_row(self._connection, queries.TOTALS[lane]) for lane in Lane}
            dead = ask_row(self._connection, queries.DEAD_TOTALS)
            self.envelopes = Envelopes(self._connection)
            self.alarms = Alarms(self._connection)
            self.keys = Keys(self._connection)
        except (sqlite3.DatabaseError, OutboxCorrupt) as error:
            raise OutboxCorrupt(f"{self.path}: {error}") from error
        self.last_number: int = ledger[0]
        self._removed: int = ledger[1]
        self.delivered: dict[Lane, int] = {Lane.EMERGENCY: ledger[2], Lane.ROUTINE: ledger[3]}
        self.damaged: int = ledger[4]
        self.lost: int = ledger[5]
        self.rows: dict[Lane, int] = {lane: total[0] for lane, total in totals.items()}
        self.sizes: dict[Lane, int] = {
            lane: total[1] + total[0] * CELL_BYTES for lane, total in totals.items()
        }
        self.dead_rows: int = dead[0]
        self.dead_size: int = dead[1] + dead[0] * CELL_BYTES
        self._ledger_written: tuple[int, ...] = tuple(ledger)
        self._oldest_ms: dict[Lane, int | None] = {}

    def _find_losses(self) -> None:
        """Compare what is there with what the ledger and the mark promise; count and go on."""
        highest = max(self._ask(queries.HIGHEST[lane]) for lane in Lane)
        ledger = self.last_number, self._removed
        found = reckon(sum(self.rows.values()), highest, ledger, self._mark.read())
        self.last_number, self._removed, missing = found
        if missing:
            self.lost += missing
            self.notice = f"{missing} stored entries are gone: the disk has damaged what it held"
        self.begin()
        self.commit()

    # --- transactions

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """When this has returned, everything since :meth:`begin` is on disk."""
        ledger = (
            self.last_number,
            self._removed,
            self.delivered[Lane.EMERGENCY],
            self.delivered[Lane.ROUTINE],
            self.damaged,
            self.lost,
        )
        if ledger != self._ledger_written:
            self._execute(queries.LEDGER_UPDATE, ledger)
            self._ledger_written = ledger
        self._execute("COMMIT")
        self.commits += 1
        self._mark.write(self.last_number, self._removed)

    def undo(self) -> None:
        """Everything since :meth:`begin` is as if it had not been, the figures too: linear."""
        with contextlib.suppress(sqlite3.OperationalError):  # SQLite may have done so itself
            self._execute("ROLLBACK")
        self._load()

    def rest(self) -> None:
        """Fold the log into the database and cut it: only a log's content can vanish unseen."""
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._mark.sync()

    def close(self) -> None:
        self.rest()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        self._connection.close()
        self._mark.close()

    @property
    def size(self) -> int:
        """Bytes of everything that counts against the quota."""
        return sum(self.sizes.values()) + self.dead_size + self.envelopes.size

    def disk_free(self, enough: int) -> int:
        """Bytes that rows can still take: of the partition, and of free pages in the file, which
        are only asked for if the partition has not ``enough``: that costs a query."""
        free = self.ballast.room()
        if free >= enough:
            return free
        free_pages: int = self._ask("PRAGMA freelist_count")
        return free + free_pages * self._page_size

    def prune_envelopes(self, created_before_ms: int) -> None:
        """Forget envelopes that are older and that no entry or dead letter needs."""
        first = [self._execute(queries.FIRST[lane]).fetchone() for lane in Lane]
        waiting = min((row[0] for row in first if row is not None), default=self.last_number + 1)
        self.envelopes.prune(created_before_ms, self.last_number, waiting)

    # --- entries

    def add(self, lane: Lane, entries: Sequence[Entry]) -> None:
        """Number and insert; the first gets ``last_number + 1``."""
        parameters = pack_rows(lane, self.last_number + 1, entries)
        at, end = 0, len(parameters)
        for rows in queries.CHUNKS:
            while end - at >= 2 * rows:
                self._execute(queries.INSERT[lane][rows], parameters[at : at + 2 * rows])
                at += 2 * rows
        self.last_number += len(entries)
        if not self.rows[lane]:
            self._oldest_ms.pop(lane, None)
        self.rows[lane] += len(entries)
        self.sizes[lane] += sum([len(entry[5]) for entry in entries]) + len(entries) * ROW_OVERHEAD

    def read(
        self, lane: Lane, after: int, before: int, limit: int, max_bytes: int
    ) -> tuple[list[tuple[int, Entry]], list[int]]:
        """Entries with ``after < number < before`` in order, at most ``limit`` of them, and the
        numbers of damaged rows among them. Past the first, not above ``max_bytes`` of rows."""
        entries: list[tuple[int, Entry]] = []
        damaged: list[int] = []
        size = 0
        for number, blob in self._execute(queries.READ[lane], (after, before, limit)).fetchall():
            size += len(blob)
            if size > max_bytes and (entries or damaged):
                break
            if intact(lane, number, blob):
                entries.append((number, unpack(lane, blob)))
            else:
                damaged.append(number)
        return entries, damaged

    def oldest_ms(self, lane: Lane) -> int | None:
        """When the first waiting entry was received. Looked up once the first may be another."""
        if lane not in self._oldest_ms:
            row = self._execute(queries.FIRST[lane]).fetchone()
            known = row is not None and intact(lane, *row)
            self._oldest_ms[lane] = unpack(lane, row[1]).received_ms if row and known else None
        return self._oldest_ms[lane]

    def remove_delivered(self, lane: Lane, entries: Sequence[tuple[int, Entry]]) -> None:
        """Delete entries that the sink has, and keep their keys for a while."""
        size = sum([len(entry[5]) for _, entry in entries]) + len(entries) * ROW_OVERHEAD
        self._delete(lane, [number for number, _ in entries], size)
        self.delivered[lane] += len(entries)
        self.keys.keep(entries)

    def _delete(self, lane: Lane, numbers: Sequence[int], size: int) -> None:
        deleted = 0
        for first, last in runs(sorted(numbers)):
            deleted += self._execute(queries.DELETE[lane], (first, last)).rowcount
        if deleted != len(numbers):
            raise OutboxCorrupt(f"{self.path}: rows of the {lane} lane are gone")
        self._oldest_ms.pop(lane, None)
        self._removed += len(numbers)
        self.rows[lane] -= len(numbers)
        self.sizes[lane] -= size

    # --- dead letters

    def bury(self, lane: Lane, letters: Iterable[tuple[int, str]], at_ms: int) -> None:
        """Move entries (number, reason) to the dead letters."""
        numbers = []
        for number, reason in letters:
            self._execute(queries.BURY[lane], (reason, at_ms, number))
            numbers.append(number)
        size = self._ask(queries.SIZE[lane], (json.dumps(numbers),))
        size += len(numbers) * CELL_BYTES
        self._delete(lane, numbers, size)
        self.dead_rows += len(numbers)
        self.dead_size += size

    def quarantine(self, lane: Lane, numbers: Sequence[int], at_ms: int) -> None:
        """Move damaged rows to the dead letters, bytes as they are, and count them."""
        self.bury(lane, [(number, DAMAGED) for number in numbers], at_ms)
        self.damaged += len(numbers)

    def dead_letters(self, after: int, limit: int) -> list[DeadLetter]:
        """Dead letters with a number above ``after``."""
        return self._letters(queries.DEAD, (after, limit))

    def unbury(self, wanted: Sequence[int]) -> list[DeadLetter]:
        """Put those that are intact back into their lanes, under their old numbers: which."""
        found = self._letters(queries.DEAD_OF, (json.dumps(wanted),))
        letters = [letter for letter in found if letter.entry is not None]
        for lane in Lane:
            numbers = [letter.number for letter in letters if letter.lane is lane]
            size = self._ask(queries.DEAD_SIZE, (json.dumps(numbers),))
            self._execute(queries.UNBURY[lane], (json.dumps(numbers),))
            moved: int = self._ask("SELECT changes()")
            self._oldest_ms.pop(lane, None)
            self._removed -= moved
            self.rows[lane] += moved
            self.sizes[lane] += size + moved * CELL_BYTES
        self.drop_dead([letter.number for letter in letters])
        return letters

    def drop_dead(self, numbers: Sequence[int]) -> int:
        """Delete dead letters for good; how many."""
        size = self._ask(queries.DEAD_SIZE, (json.dumps(numbers),))
        self._execute(queries.DEAD_DELETE, (json.dumps(numbers),))
        dropped: int = self._ask("SELECT changes()")
        self.dead_rows -= dropped
        self.dead_size -= size + dropped * CELL_BYTES
        return dropped

    def _letters(self, sql: str, parameters: Sequence[object]) -> list[DeadLetter]:
        found = []
        for number, name, row, reason, at_ms in self._execute(sql, parameters).fetchall():
            lane = Lane(name)
            entry = unpack(lane, row) if intact(lane, number, row) else None
            found.append(DeadLetter(number, lane, entry, reason, at_ms))
        return found

    # --- salvage

    def adopt(self, lane: Lane, rows: Sequence[tuple[int, bytes]]) -> None:
        """Rows saved from a damaged database, under their own numbers and as they are: what is
        wrong with one is found when it is read. Of two with one number the first counts."""
        for number, blob in rows:
            if not self._execute(queries.ADOPT[lane], (number, blob)).rowcount:
                continue
            self.rows[lane] += 1
            self.sizes[lane] += len(blob) + CELL_BYTES
            # A number that nobody gave out would leave few to give.
            if number - self.last_number < _FAR or intact(lane, number, blob):
                self.last_number = max(self.last_number, number)

    def adopt_dead(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Dead letters saved from a damaged database."""
        for row in rows:
            self._execute(queries.DEAD_ADOPT, row)

    def resume(self, ledger: tuple[int, ...] | None, mark: tuple[int, int] | None) -> None:
        """Go on where the damaged database ended, and count what did not come along."""
        if ledger is not None:
            self.delivered = {Lane.EMERGENCY: ledger[2], Lane.ROUTINE: ledger[3]}
            self.damaged, self.lost = ledger[4], ledger[5]
        saved = sum(self.rows.values())
        promises = [promise[:2] for promise in (ledger, mark) if promise is not None]
        last, removed = max(promises, default=(self.last_number, self.last_number - saved))
        self.lost += max(last - removed - saved, 0)
        self.last_number = max(self.last_number, last)
        self._removed = self.last_number - saved

    def distrust(self, error: BaseException) -> None:
        """If the error says that the file is damaged, the next start is to know it: opening alone
        need not meet the damage again, and the gateway would fail for ever."""
        if means_damage(error) or isinstance(error, OutboxCorrupt):
            with contextlib.suppress(OSError):
                damage_note(self.path).touch()

    # --- statements

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> Cursor:
        return self._connection.execute(sql, parameters)

    def _ask(self, sql: str, parameters: Sequence[object] = ()) -> Any:  # noqa: ANN401
        return ask(self._connection, sql, parameters)
