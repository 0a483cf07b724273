"""gateway.outbox.writer and gateway.outbox.clerk"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.cose.envelope import Envelope
from gateway.errors import OutboxCorrupt, OutboxError, OutboxFull
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.connection import connect
from gateway.outbox.row import LAST_NUMBER, ROW_OVERHEAD
from gateway.outbox.store import Store
from gateway.outbox.turns import TURN_ROWS
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from gateway.clock import Clock
    from gateway.outbox.connection import Connection, Cursor
    from gateway.outbox.entry import Entry, Leased
    from tests.unit.outbox.conftest import FakeClock, Running

    Make = Callable[..., Entry]
    Start = Callable[..., Awaitable[Running]]

BIG = 1 << 30


async def lease(writer: Writer, lane: Lane, limit: int = 1000) -> list[Leased]:
    return await writer.lease(lane, limit, BIG, now=0.0)


class Gate:
    """Lets the first statement that starts with a word wait, so that a turn can be held open."""

    def __init__(self, word: str) -> None:
        self._word = word
        self.reached = threading.Event()
        self.opened = threading.Event()

    def connect(self, path: Path) -> Connection:
        return _Gated(connect(path), self)

    def pass_by(self, sql: str) -> None:
        if sql.startswith(self._word) and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(10)


class _Gated:
    def __init__(self, inner: Connection, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate
        self.close = inner.close

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        self._gate.pass_by(sql)
        return self._inner.execute(sql, parameters)


async def test_a_token_comes_back_when_its_entries_are_on_disk(
    start: Start, make_entry: Make
) -> None:
    running = await start()
    entries = [make_entry() for _ in range(3)]
    running.writer.submit(entries, [], "burst")
    assert running.tokens == [], "not before the commit"
    await running.writer.flush()
    assert running.tokens == ["burst"]
    await running.writer.close()
    store = Store(running.path)
    assert [entry for _, entry in store.read(Lane.ROUTINE, 0, BIG, 10, BIG)[0]] == entries
    store.close()


async def test_what_is_queued_during_a_commit_is_the_next_one(
    start: Start, make_entry: Make
) -> None:
    gate = Gate("INSERT INTO routine")
    running = await start(open_store=lambda path: Store(path, connect=gate.connect))
    running.writer.submit([make_entry()], [], 0)
    await asyncio.to_thread(gate.reached.wait, 10)
    for n in range(1, 51):
        running.writer.submit([make_entry()], [], n)
    gate.opened.set()
    await running.writer.flush()
    assert running.tokens == list(range(51))
    assert running.commits == [1, 50]


async def test_an_emergency_waits_for_one_routine_turn_at_most(
    start: Start, make_entry: Make
) -> None:
    gate = Gate("INSERT INTO routine")
    running = await start(open_store=lambda path: Store(path, connect=gate.connect))
    running.writer.submit([make_entry()], [], "first routine")
    await asyncio.to_thread(gate.reached.wait, 10)
    for _ in range(5):
        running.writer.submit([make_entry() for _ in range(TURN_ROWS)], [], "routine")
    running.writer.submit([make_entry(Lane.EMERGENCY)], [], "emergency")
    waiting = asyncio.ensure_future(lease(running.writer, Lane.EMERGENCY))
    gate.opened.set()
    assert len(await waiting) == 1
    assert running.tokens[:2] == ["first routine", "emergency"]
    await running.writer.flush()
    assert running.commits == [1, 1, 1, 1, 1, 1, 1], "a turn is bounded"


async def test_a_mixed_submission_is_one_transaction(start: Start, make_entry: Make) -> None:
    running = await start()
    mixed = [make_entry(), make_entry(Lane.EMERGENCY), make_entry()]
    running.writer.submit(mixed, [], "mixed")
    await running.writer.flush()
    assert running.commits == [1]
    assert [leased.entry for leased in await lease(running.writer, Lane.EMERGENCY)] == [mixed[1]]
    assert [leased.entry for leased in await lease(running.writer, Lane.ROUTINE)] == [
        mixed[0],
        mixed[2],
    ]


async def test_a_commit_wakes_its_lane_only(start: Start, make_entry: Make) -> None:
    running = await start()
    running.writer.submit([make_entry()], [], 1)
    await running.writer.flush()
    assert running.writer.woken(Lane.ROUTINE).is_set()
    assert not running.writer.woken(Lane.EMERGENCY).is_set()


async def test_what_has_no_number_is_refused_and_what_has_one_is_delivered(
    start: Start, make_entry: Make
) -> None:
    running = await start()
    await running.writer.close()
    with contextlib.closing(sqlite3.connect(running.path, isolation_level=None)) as connection:
        ledger = (LAST_NUMBER - 2, LAST_NUMBER - 2)
        connection.execute("UPDATE ledger SET last_number = ?, removed = ?", ledger)
    running.path.with_suffix(".mark").unlink()
    running = await start()
    for count in (2, 1):
        running.writer.submit([make_entry() for _ in range(count)], [], f"{count} more")
        await running.writer.flush()
    assert (running.tokens, running.failures) == (["2 more"], [])
    leased = await lease(running.writer, Lane.ROUTINE)
    assert [one.number for one in leased] == [LAST_NUMBER - 1, LAST_NUMBER]
    running.writer.settle(Lane.ROUTINE, done=[one.number for one in leased])
    await running.writer.flush()
    assert running.writer.status().lanes[Lane.ROUTINE].delivered == 2


async def test_what_is_gone_is_said_at_the_start(
    start: Start, make_entry: Make, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    running.writer.submit([make_entry() for _ in range(3)], [], "burst")
    await running.writer.close()
    with contextlib.closing(sqlite3.connect(running.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM routine WHERE number = 2")
    running = await start()
    assert "1 stored entries are gone" in caplog.text
    assert "1 stored entries are gone" in running.writer.status().notice


async def test_leased_entries_are_handed_out_once_and_settled(
    start: Start, make_entry: Make
) -> None:
    running = await start()
    writer = running.writer
    entries = [make_entry() for _ in range(5)]
    writer.submit(entries, [], 1)
    first = await lease(writer, Lane.ROUTINE, 3)
    second = await lease(writer, Lane.ROUTINE)
    assert [leased.entry for leased in first + second] == entries
    assert await lease(writer, Lane.ROUTINE) == []
    writer.settle(
        Lane.ROUTINE,
        done=[first[0].number, second[0].number],
        retry=[(first[1].number, 100.0)],
        dead=[(first[2].number, "400 bad")],
    )
    assert await lease(writer, Lane.ROUTINE) == []
    [again] = await writer.lease(Lane.ROUTINE, 9, BIG, now=100.0)
    assert (again.entry, again.attempts) == (entries[1], 1)
    status = writer.status()
    assert (status.lanes[Lane.ROUTINE].rows, status.lanes[Lane.ROUTINE].delivered) == (2, 2)
    assert status.lanes[Lane.ROUTINE].oldest_ms == entries[1].received_ms
    assert status.dead == 1


async def test_a_restart_hands_out_everything_that_is_not_settled(
    start: Start, make_entry: Make
) -> None:
    running = await start()
    entries = [make_entry() for _ in range(4)]
    running.writer.submit(entries, [], 1)
    leased = await lease(running.writer, Lane.ROUTINE, 3)
    running.writer.settle(Lane.ROUTINE, done=[leased[1].number])
    await running.writer.close()
    running = await start()
    again = await lease(running.writer, Lane.ROUTINE)
    assert [item.entry for item in again] == [entries[0], entries[2], entries[3]]
    assert await running.writer.recent_keys() == [entry.key for entry in entries]


async def test_the_reserve_is_for_emergencies(start: Start, make_entry: Make) -> None:
    size = 1000
    config = Config(max_bytes=20 * (size + ROW_OVERHEAD), reserve_bytes=10 * (size + ROW_OVERHEAD))
    writer = (await start(config)).writer
    for lane, most in ((Lane.ROUTINE, 10), (Lane.EMERGENCY, 10)):
        for _ in range(most):
            writer.check_room(lane, size)
            writer.submit([make_entry(lane, size=size)], [], 0)
        with pytest.raises(OutboxFull):
            writer.check_room(lane, size)
        await writer.flush()
        with pytest.raises(OutboxFull):
            writer.check_room(lane, size)
    status = writer.status()
    assert status.size == config.max_bytes
    assert [status.lanes[lane].refused for lane in Lane] == [2, 2]
    for lane in Lane:
        leased = await lease(writer, lane)
        writer.settle(lane, done=[item.number for item in leased])
    await writer.flush()
    writer.check_room(Lane.ROUTINE, size)


async def test_an_envelope_is_there_when_its_record_is(start: Start, make_entry: Make) -> None:
    writer = (await start()).writer
    envelope = Envelope(b"e" * 16, "gw", b"p" * 16, Lane.ROUTINE, 1, (), b"message")
    writer.submit([make_entry()], [envelope], 1)
    await lease(writer, Lane.ROUTINE)
    [kept] = await writer.envelopes(Lane.ROUTINE, [envelope.epoch])
    assert (kept.message, kept.delivered) == (b"message", False)
    writer.envelopes_delivered(Lane.ROUTINE, [envelope.epoch])
    [kept] = await writer.envelopes(Lane.ROUTINE, [envelope.epoch])
    assert kept.delivered


async def test_alarms_outlive_the_process(start: Start) -> None:
    running = await start()
    running.writer.keep_alarms([(b"1", b"sealed"), (b"2", b"sealed")], [b"2"])
    await running.writer.close()
    running = await start()
    assert await running.writer.alarms() == [(b"1", b"sealed")]


async def test_dead_letters_can_be_retried_and_dropped(start: Start, make_entry: Make) -> None:
    running = await start()
    writer = running.writer
    entries = [make_entry(lane) for lane in (Lane.ROUTINE, Lane.EMERGENCY, Lane.ROUTINE)]
    writer.submit(entries, [], 1)
    for lane in Lane:
        leased = await lease(writer, lane)
        writer.settle(lane, dead=[(item.number, "no") for item in leased])
    letters = await writer.dead_letters(0, 10)
    assert {letter.entry for letter in letters} == set(entries)
    for lane in Lane:
        writer.woken(lane).clear()
    assert await writer.retry_dead([letter.number for letter in letters[:2]] + [99]) == 2
    assert all(writer.woken(lane).is_set() for lane in Lane)
    back = [leased.entry for lane in Lane for leased in await lease(writer, lane)]
    assert len(back) == 2
    assert await writer.drop_dead([letters[2].number]) == 1
    assert writer.status().dead == 0


async def test_a_damaged_row_does_not_stop_the_lane(start: Start, make_entry: Make) -> None:
    running = await start()
    entries = [make_entry() for _ in range(30)]
    running.writer.submit(entries, [], 1)
    await running.writer.close()
    connection = sqlite3.connect(running.path, isolation_level=None)
    connection.execute("UPDATE routine SET row = zeroblob(99) WHERE number BETWEEN 2 AND 25")
    connection.close()
    running = await start()
    found: list[Entry] = []
    while batch := await lease(running.writer, Lane.ROUTINE, 10):
        found += [leased.entry for leased in batch]
    assert found == [entries[0], *entries[25:]]
    status = running.writer.status()
    assert (status.damaged, status.dead, status.lanes[Lane.ROUTINE].rows) == (24, 24, 6)
    assert await running.writer.retry_dead([2, 3]) == 0, "what is damaged stays"


class Failing:
    """A connection whose disk breaks at a statement."""

    def __init__(self, inner: Connection, word: str) -> None:
        self._inner = inner
        self._word = word
        self.close = inner.close

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if sql.startswith(self._word) and "ledger" not in sql:
            raise sqlite3.OperationalError("disk I/O error")
        return self._inner.execute(sql, parameters)


@pytest.mark.parametrize("word", ["INSERT INTO emergency", "SELECT number"])
async def test_after_an_io_error_nothing_is_acknowledged(
    start: Start, make_entry: Make, word: str
) -> None:
    running = await start(
        open_store=lambda path: Store(path, connect=lambda p: Failing(connect(p), word))
    )
    running.writer.submit([make_entry(Lane.EMERGENCY)], [], "lost")
    with pytest.raises(OutboxCorrupt, match="disk I/O error"):
        await running.writer.flush()
    assert [str(failure) for failure in running.failures] == ["disk I/O error"]
    assert running.tokens == []
    with pytest.raises(OutboxCorrupt):
        running.writer.submit([make_entry()], [], "later")
    with pytest.raises(OutboxCorrupt):
        await lease(running.writer, Lane.ROUTINE)


async def test_a_store_that_cannot_be_opened_fails_the_start(tmp_path: Path, clock: Clock) -> None:
    writer = Writer(lambda: Store(tmp_path / "missing" / "outbox.db"), Config(), clock)
    with pytest.raises(OutboxError, match="cannot be opened"):
        await writer.start(
            on_committed=lambda _: None, on_refused=lambda *_: None, on_failure=lambda _: None
        )
    await writer.close()


async def test_the_log_is_folded_in_when_nothing_comes(start: Start, make_entry: Make) -> None:
    running = await start()
    running.writer.submit([make_entry() for _ in range(500)], [], 1)
    await running.writer.flush()
    log = running.path.with_name("outbox.db-wal")
    assert log.stat().st_size > 0
    async with asyncio.timeout(10):
        while log.stat().st_size:  # noqa: ASYNC110  a file tells nobody
            await asyncio.sleep(0.05)


async def test_an_emergency_is_leased_from_a_large_backlog_at_once(
    start: Start, make_entry: Make
) -> None:
    writer = (await start()).writer
    template = make_entry(size=16)
    writer.submit([template] * 100_000, [], 1)
    await writer.flush()
    writer.submit([make_entry(Lane.EMERGENCY)], [], 1)
    began = asyncio.get_running_loop().time()
    assert len(await lease(writer, Lane.EMERGENCY)) == 1
    assert asyncio.get_running_loop().time() - began < 0.5


class SmallDisk(Store):
    """A store whose partition somebody else fills and empties."""

    free = 0

    def disk_free(self, enough: int) -> int:
        return self.free


async def test_room_on_the_disk_is_noticed_without_a_commit(start: Start) -> None:
    stores: list[SmallDisk] = []

    def open_store(path: Path) -> Store:
        stores.append(SmallDisk(path))
        return stores[0]

    writer = (await start(Config(reserve_bytes=1000), open_store=open_store)).writer
    for lane in Lane:
        with pytest.raises(OutboxFull):
            writer.check_room(lane, 1)
    stores[0].free = 1 << 20
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OutboxFull):
                writer.check_room(Lane.ROUTINE, 1)
                return
            await asyncio.sleep(0.05)


async def test_it_rests_though_it_is_asked_all_the_time(
    tmp_path: Path, make_entry: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a watchdog: the log is folded in all the same."""
    monkeypatch.setattr("gateway.outbox.writer._REST_S", 0.2)
    path = tmp_path / "outbox.db"
    writer = Writer(partial(Store, path), Config(), SystemClock())
    await writer.start(
        on_committed=lambda tokens: None,
        on_refused=lambda tokens, error: None,
        on_failure=lambda error: None,
    )
    log = path.with_name("outbox.db-wal")
    writer.submit([make_entry()], [], None)
    await writer.flush()
    assert log.stat().st_size > 0
    async with asyncio.timeout(20):
        while log.stat().st_size > 0:
            await writer.flush([Lane.EMERGENCY])
            await asyncio.sleep(0.02)
    await writer.close()


async def test_another_quota_counts_from_the_next_entry_on(start: Start) -> None:
    writer = (await start()).writer
    writer.check_room(Lane.ROUTINE, 100)
    writer.resize(Config(max_bytes=100, reserve_bytes=50))
    with pytest.raises(OutboxFull):
        writer.check_room(Lane.ROUTINE, 100)
    assert writer.status().max_bytes == 100
    writer.resize(Config())
    writer.check_room(Lane.ROUTINE, 100)


async def test_what_nobody_waits_for_any_more_is_leased_by_the_next(
    start: Start, make_entry: Make
) -> None:
    """As when a reload replaces a pump that stands behind a slow disk."""
    gate = Gate("INSERT INTO routine")
    running = await start(open_store=lambda path: Store(path, connect=gate.connect))
    entry = make_entry()
    running.writer.submit([entry], [], 1)
    assert await asyncio.to_thread(gate.reached.wait, 10)
    given_up = asyncio.create_task(lease(running.writer, Lane.ROUTINE))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    [leased] = await lease(running.writer, Lane.ROUTINE)
    assert leased.entry == entry


async def test_envelopes_are_pruned_while_it_is_never_idle(
    start: Start, make_entry: Make, clock: FakeClock
) -> None:
    running = await start()
    writer = running.writer
    envelope = Envelope(b"e" * 16, "gw", b"p" * 16, Lane.ROUTINE, 1, (), b"message")
    writer.submit([], [envelope], 1)
    await writer.flush()
    clock.now += 3601.0
    for _ in range(2):  # the first finds which are old
        writer.submit([make_entry()], [], 2)
        await writer.flush()
        clock.now += 3601.0
    assert await writer.envelopes(Lane.ROUTINE, [envelope.epoch]) == []
