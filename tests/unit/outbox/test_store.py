"""gateway.outbox.store, with its connection, its configuring and its small tables"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.cose.envelope import Envelope
from gateway.errors import OutboxCorrupt, OutboxError
from gateway.lane import Lane
from gateway.outbox import queries
from gateway.outbox.connection import connect
from gateway.outbox.keys import KEPT_KEYS
from gateway.outbox.row import CELL_BYTES, pack_rows
from gateway.outbox.store import DAMAGED, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.outbox.connection import Connection, Cursor
    from gateway.outbox.entry import Entry

BIG = 1 << 30
END = 1 << 62


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def connection(path: Path) -> Connection:
    """The store's own."""
    return connect(path)


@pytest.fixture
def store(path: Path, connection: Connection) -> Iterator[Store]:
    store = Store(path, connect=lambda _: connection)
    yield store
    with contextlib.suppress(sqlite3.ProgrammingError):  # the test has closed it
        store.close()


def fill(store: Store, lane: Lane, entries: Sequence[Entry]) -> None:
    store.begin()
    store.add(lane, entries)
    store.commit()


def waiting(store: Store, lane: Lane) -> list[tuple[int, Entry]]:
    entries, damaged = store.read(lane, 0, END, 1 << 20, BIG)
    assert not damaged
    return entries


def test_the_database_is_as_safe_as_sqlite_can_be(path: Path) -> None:
    asked: list[str] = []

    class Listening:
        def __init__(self, inner: Connection) -> None:
            self._inner = inner
            self.close = inner.close

        def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
            asked.append(sql)
            return self._inner.execute(sql, parameters)

    inner = connect(path)
    store = Store(path, connect=lambda _: Listening(inner))
    assert inner.execute("PRAGMA synchronous").fetchone() == (2,)
    assert inner.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert inner.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)
    assert "PRAGMA synchronous" in asked, "set is not enough: it is read back"
    store.close()


def test_only_the_owner_may_read_it(
    path: Path, tmp_path: Path, make_entry: Callable[..., Entry]
) -> None:
    store = Store(path)
    fill(store, Lane.ROUTINE, [make_entry()])
    files = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert files == dict.fromkeys(["outbox.db", "outbox.db-wal", "outbox.mark"], 0o600)
    store.close()


def test_a_build_that_does_not_sync_is_refused(path: Path) -> None:
    class Lax:
        """A SQLite that keeps ``synchronous = NORMAL`` whatever it is told."""

        def __init__(self, inner: Connection) -> None:
            self._inner = inner
            self.close = inner.close

        def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
            return self._inner.execute(sql.replace("FULL", "NORMAL"), parameters)

    with pytest.raises(OutboxError, match="synchronous"):
        Store(path, connect=lambda p: Lax(connect(p)))


def test_a_second_process_is_turned_away(store: Store, path: Path) -> None:
    def impatient(path: Path) -> Connection:
        connection = connect(path)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    with pytest.raises(OutboxError, match="in use by a running gateway"):
        Store(path, connect=impatient)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT])
def test_a_disk_that_fails_at_the_start_is_told_from_a_damaged_file(path: Path, code: int) -> None:
    """The second commit is that of what is missing: the first is the schema's."""
    commits = 0

    class Failing:
        def __init__(self, inner: Connection) -> None:
            self._inner = inner
            self.close = inner.close

        def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
            nonlocal commits
            commits += sql == "COMMIT"
            if commits == 2:
                error = sqlite3.DatabaseError("no")
                error.sqlite_errorcode = code
                raise error
            return self._inner.execute(sql, parameters)

    with pytest.raises(OutboxError, match="cannot be opened: no") as raised:
        Store(path, connect=lambda p: Failing(connect(p)))
    assert isinstance(raised.value, OutboxCorrupt) == (code == sqlite3.SQLITE_CORRUPT)


def test_a_newer_version_is_not_touched(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(OutboxError, match="newer"):
        Store(path)


def test_entries_survive_a_reopen_in_order(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    routine = [make_entry() for _ in range(1111)]
    emergencies = [make_entry(Lane.EMERGENCY) for _ in range(3)]
    fill(store, Lane.ROUTINE, routine)
    fill(store, Lane.EMERGENCY, emergencies)
    store.close()
    again = Store(path)
    assert [entry for _, entry in waiting(again, Lane.ROUTINE)] == routine
    assert waiting(again, Lane.EMERGENCY) == list(enumerate(emergencies, 1112))
    assert again.rows == {Lane.ROUTINE: 1111, Lane.EMERGENCY: 3}
    assert again.sizes == store.sizes
    assert (again.last_number, again.lost) == (1114, 0)
    again.close()


def test_numbers_are_never_used_twice(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    fill(store, Lane.ROUTINE, [make_entry(), make_entry()])
    store.begin()
    store.remove_delivered(Lane.ROUTINE, waiting(store, Lane.ROUTINE))
    store.commit()
    store.close()
    again = Store(path)
    fill(again, Lane.ROUTINE, [make_entry()])
    assert [number for number, _ in waiting(again, Lane.ROUTINE)] == [3]
    assert again.delivered[Lane.ROUTINE] == 2
    assert again.lost == 0
    again.close()


@pytest.mark.parametrize("lane", Lane)
def test_no_query_of_a_lane_scans(store: Store, connection: Connection, lane: Lane) -> None:
    for sql, parameters in (
        (queries.READ[lane], (0, END, 10)),
        (queries.DELETE[lane], (1, 1)),
        (queries.BURY[lane], ("", 0, 1)),
    ):
        steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        plan = "\n".join(step[3] for step in steps)
        assert f"SCAN {queries.TABLES[lane]}" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_keys_of_delivered_messages_are_kept_for_a_while(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    entries = [make_entry(keyed=n % 2 == 0) for n in range(6)]
    fill(store, Lane.ROUTINE, entries)
    store.begin()
    store.remove_delivered(Lane.ROUTINE, waiting(store, Lane.ROUTINE)[:3])
    store.commit()
    store.close()
    again = Store(path)
    assert again.keys.recent() == [entries[n].key for n in (0, 2, 4)]
    again.close()


def test_old_keys_are_forgotten(
    store: Store, connection: Connection, make_entry: Callable[..., Entry]
) -> None:
    chunk = KEPT_KEYS // 8
    fill(store, Lane.ROUTINE, [make_entry(size=1) for _ in range(10 * chunk)])
    entries = waiting(store, Lane.ROUTINE)
    for at in range(0, len(entries), chunk):
        store.begin()
        store.remove_delivered(Lane.ROUTINE, entries[at : at + chunk])
        store.commit()
    assert store.keys.recent() == [entry.key for _, entry in entries[-KEPT_KEYS:]]
    assert connection.execute("SELECT count(*) FROM delivered_keys").fetchone() == (8,)


def test_a_dead_letter_keeps_the_words_and_comes_back_as_it_was(
    store: Store, make_entry: Callable[..., Entry]
) -> None:
    entries = [make_entry() for _ in range(3)]
    fill(store, Lane.ROUTINE, entries)
    size = store.size
    store.begin()
    store.bury(Lane.ROUTINE, [(2, "400 no such patient")], 77)
    store.commit()
    [letter] = store.dead_letters(0, 10)
    assert (letter.number, letter.entry, letter.reason) == (2, entries[1], "400 no such patient")
    assert (letter.lane, letter.at_ms) == (Lane.ROUTINE, 77)
    assert store.rows[Lane.ROUTINE] == 2
    assert store.size == size, "a dead letter still takes its room"
    store.begin()
    assert store.unbury([letter.number, 77]) == [letter]
    store.commit()
    assert waiting(store, Lane.ROUTINE) == list(enumerate(entries, 1))
    assert (store.dead_rows, store.dead_size, store.size) == (0, 0, size)


def test_a_dropped_dead_letter_gives_its_room_back(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    fill(store, Lane.ROUTINE, [make_entry()])
    store.begin()
    store.bury(Lane.ROUTINE, [(1, "no")], 0)
    assert store.drop_dead([1, 5]) == 1
    store.commit()
    assert (store.dead_letters(0, 9), store.size) == ([], 0)
    store.close()
    again = Store(path)
    assert again.lost == 0
    again.close()


def damage(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "wrong",
    [
        "CAST(substr(row, 1, 80) || x'ff' || substr(row, 82) AS BLOB)",
        "CAST(x'ff' AS TEXT)",
        "5",
    ],
)
def test_a_row_changed_on_disk_is_quarantined_and_counted(
    path: Path, store: Store, make_entry: Callable[..., Entry], wrong: str
) -> None:
    fill(store, Lane.ROUTINE, [make_entry(), make_entry()])
    store.close()
    damage(path, f"UPDATE routine SET row = {wrong}")
    again = Store(path)
    entries, damaged = again.read(Lane.ROUTINE, 0, END, 10, BIG)
    assert (entries, damaged) == ([], [1, 2])
    again.begin()
    again.quarantine(Lane.ROUTINE, damaged, 0)
    again.commit()
    assert again.damaged == 2
    assert [(d.entry, d.reason) for d in again.dead_letters(0, 9)] == [(None, DAMAGED)] * 2
    again.close()


def test_a_row_that_vanished_is_counted_once(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    fill(store, Lane.ROUTINE, [make_entry() for _ in range(5)])
    store.close()
    damage(path, "DELETE FROM routine WHERE number IN (2, 4)")
    for n in range(2):
        again = Store(path)
        assert again.lost == 2
        assert again.notice.startswith("2 stored entries are gone") == (n == 0), "told once"
        assert [number for number, _ in waiting(again, Lane.ROUTINE)] == [1, 3, 5]
        again.close()


def test_transactions_that_vanished_are_counted_and_their_numbers_not_reused(
    path: Path, store: Store, make_entry: Callable[..., Entry]
) -> None:
    """As after a flipped bit in the log: the database itself does not know."""
    fill(store, Lane.ROUTINE, [make_entry() for _ in range(5)])
    store.rest()
    old = path.read_bytes()
    for _ in range(3):
        fill(store, Lane.ROUTINE, [make_entry()])
    store.close()
    path.write_bytes(old)
    again = Store(path)
    assert again.lost == 3
    fill(again, Lane.ROUTINE, [make_entry()])
    assert [number for number, _ in waiting(again, Lane.ROUTINE)] == [1, 2, 3, 4, 5, 9]
    again.close()
    assert_lost(path, 3)


def assert_lost(path: Path, lost: int) -> None:
    store = Store(path)
    assert store.lost == lost
    store.close()


def test_a_bit_flipped_in_the_log_is_noticed(
    path: Path, store: Store, tmp_path: Path, make_entry: Callable[..., Entry]
) -> None:
    for _ in range(20):
        fill(store, Lane.ROUTINE, [make_entry()])
    log = bytearray((tmp_path / "outbox.db-wal").read_bytes())
    store.close()
    image = tmp_path / "crashed"
    image.mkdir()
    log[len(log) // 2] ^= 1
    (image / "outbox.db-wal").write_bytes(log)
    (image / "outbox.mark").write_bytes((tmp_path / "outbox.mark").read_bytes())
    crashed = image / "outbox.db"
    sqlite3.connect(crashed).close()
    again = Store(crashed)
    assert 0 < again.lost <= 20
    assert again.lost + again.rows[Lane.ROUTINE] == 20
    again.close()


def test_a_row_that_a_damaged_tree_shows_twice_is_saved_once(
    store: Store, make_entry: Callable[..., Entry]
) -> None:
    [first, second] = pack_rows(Lane.ROUTINE, 7, [make_entry()]), [7, b"another"]
    store.begin()
    store.adopt(Lane.ROUTINE, [(first[0], first[1]), (second[0], second[1]), (3, b"z")])
    store.adopt_dead([(9, "routine", b"d", "no", 0), (9, "routine", b"e", "no", 0)])
    store.resume(None, None)
    store.commit()
    assert (store.rows[Lane.ROUTINE], store.lost) == (2, 0)
    [(number, _)], damaged = store.read(Lane.ROUTINE, 0, END, 10, BIG)
    assert (number, damaged) == (7, [3])
    assert store.sizes[Lane.ROUTINE] == len(first[1]) + len(b"z") + 2 * CELL_BYTES


def test_a_damaged_number_does_not_use_up_those_that_are_left(
    store: Store, make_entry: Callable[..., Entry]
) -> None:
    far = 1 << 40
    number, row = pack_rows(Lane.ROUTINE, far, [make_entry()])
    store.begin()
    store.adopt(Lane.ROUTINE, [(1, b"damaged"), (number, row), (far + 5, b"x"), (1 << 62, row)])
    store.resume(None, None)
    store.commit()
    assert store.last_number == far + 5


def envelope(epoch: bytes, created_ms: int) -> Envelope:
    return Envelope(epoch, "gw", b"p" * 16, Lane.ROUTINE, created_ms, (), b"m" * 100 + epoch)


def test_an_envelope_is_kept_as_it_came_first(store: Store) -> None:
    first = envelope(b"1" * 16, 5)
    store.begin()
    store.envelopes.add([first, first._replace(message=b"other")])
    store.envelopes.delivered([first.epoch])
    store.commit()
    [kept] = store.envelopes.get([first.epoch, b"2" * 16])
    assert (kept.message, kept.created_ms, kept.delivered) == (first.message, 5, True)


def test_an_old_envelope_goes_when_nothing_needs_it(
    store: Store, make_entry: Callable[..., Entry]
) -> None:
    old, dead, young = (
        envelope(bytes([n]) * 16, created) for n, created in ((1, 5), (2, 5), (3, 50))
    )
    store.begin()
    store.envelopes.add([old, dead, young])
    store.add(
        Lane.ROUTINE,
        [make_entry()._replace(epoch=old.epoch), make_entry()._replace(epoch=dead.epoch)],
    )
    store.prune_envelopes(10)
    store.commit()
    epochs = [old.epoch, dead.epoch, young.epoch]
    assert len(store.envelopes.get(epochs)) == 3, "an entry waits"
    store.begin()
    store.bury(Lane.ROUTINE, [(2, "no")], 0)
    store.remove_delivered(Lane.ROUTINE, waiting(store, Lane.ROUTINE))
    store.prune_envelopes(10)
    store.commit()
    assert [e.epoch for e in store.envelopes.get(epochs)] == [dead.epoch, young.epoch]
    assert store.envelopes.size == len(dead.message) + len(young.message)
    store.begin()
    store.drop_dead([2])
    store.prune_envelopes(10)
    store.commit()
    assert [e.epoch for e in store.envelopes.get(epochs)] == [young.epoch]


def test_alarms_are_kept_in_the_order_of_their_change(store: Store) -> None:
    store.begin()
    store.alarms.keep([(b"a", b"1"), (b"b", b"2")], [], 1)
    store.alarms.keep([(b"a", b"3"), (b"c", b"4")], [b"b"], 2)
    store.commit()
    assert store.alarms.all() == [(b"a", b"3"), (b"c", b"4")]
