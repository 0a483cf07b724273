"""The writer: one thread, the only connection, group commit.

**Group commit.** While the disk syncs one transaction, the event loop goes on queueing; everything
queued meanwhile is the next one. Alone, a record is committed at once; a trickle of routine records
is gathered; under load, transactions grow until a sync is shared by hundreds.

**Two queues.** Emergencies are served first, at every turn. A turn of the routine queue is bounded,
so an emergency waits for one such transaction and never for a backlog; see
:mod:`gateway.outbox.turns`.
Leases and settlements stand in the same queues, in order, so neither reading nor writing starves.

**One call back.** A turn ends with one ``call_soon_threadsafe``, with the tokens of all its
submissions and the answers to its questions. Nothing here makes a future, a task or a lock per
entry; submitting is two appends.

**A full disk.** Tokens of what it has no room for come back as refused, and nothing else changes.

**Failure.** After an I/O error nothing that follows can be trusted (a failed sync marks pages as
clean), so the first error is the last thing the writer does: no token of that transaction or any
later one comes back, every question is answered with OutboxCorrupt, and the process must end.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.errors import OutboxCorrupt, OutboxFull
from gateway.lane import Lane
from gateway.outbox.clerk import Change, Clerk, Question, Settlement, Submission
from gateway.outbox.entry import Status
from gateway.outbox.room import Room
from gateway.outbox.row import ROW_OVERHEAD
from gateway.outbox.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.clock import Clock
    from gateway.cose.envelope import Envelope
    from gateway.outbox.config import Config
    from gateway.outbox.entry import DeadLetter, Entry, Leased, StoredEnvelope
    from gateway.outbox.store import Store
    from gateway.outbox.turns import Item

_REST_S = 1.0
"""Idle time after which the log is folded into the database, and between looks at the disk: while
everything is refused for want of room, no commit tells that there is room again."""

T = TypeVar("T")


class Writer:
    """Takes entries from the event loop, commits them in groups, hands them to the pumps.

    All public methods are for the event loop's thread. None blocks. Methods whose name starts
    with ``_on_thread`` run in the writer's.
    """

    def __init__(self, open_store: Callable[[], Store], config: Config, clock: Clock) -> None:
        """``open_store`` is called once, in the writer's thread."""
        self._open_store = open_store
        self._clock = clock
        self._room = Room(config.max_bytes, config.reserve_bytes)
        self._status = Status(max_bytes=config.max_bytes, reserve_bytes=config.reserve_bytes)
        self._turns = Turns()
        self._wake = threading.Event()
        self._woken = {lane: asyncio.Event() for lane in Lane}
        self._asked: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self._closing = False

    async def start(
        self,
        *,
        on_committed: Callable[[list[object]], None],
        on_refused: Callable[[list[object], OutboxFull], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Open the store and start the thread. The callbacks run in the event loop.

        ``on_committed`` gets the tokens of one commit, in the order of their submission: what
        belongs to them is on disk. ``on_refused`` gets those for which the disk has no room: it is
        as if they had never been submitted. ``on_failure`` is called once: from then on nothing is
        acknowledged, every submission is refused, and the process must end.

        Raises:
            OutboxError: in use by another process, or cannot be opened.
        """
        self._loop = asyncio.get_running_loop()
        self._on_committed = on_committed
        self._on_refused = on_refused
        self._on_failure = on_failure
        started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(
            target=self._on_thread, args=(started,), name="outbox", daemon=True
        ).start()
        await started

    def resize(self, config: Config) -> None:
        """Another quota, from the next entry on."""
        self._room.resize(config.max_bytes, config.reserve_bytes)
        self._status.max_bytes, self._status.reserve_bytes = config.max_bytes, config.reserve_bytes

    # --- submitting

    def check_room(self, lane: Lane, size: int) -> None:
        """Call before anything is queued; ``size`` is ``len(sealed)``. Raises OutboxFull."""
        self._room.check(lane, size)

    def full(self) -> bool:
        """Whether there is no room for anything, not even for an emergency."""
        return self._room.full()

    def submit(
        self, entries: Sequence[Entry], envelopes: Sequence[Envelope], token: object
    ) -> None:
        """Queue the entries of one burst, with the envelopes that they need. Never blocks.

        One submission is one transaction's: all of it is on disk when its token comes back. A
        submission that holds an emergency goes before all routine work, so submit a burst's
        emergencies apart from its routine entries.

        Raises:
            OutboxCorrupt: the writer has failed or is closed.
        """
        emergencies = [entry for entry in entries if entry[1] is Lane.EMERGENCY]
        routine = (
            entries if not emergencies else [entry for entry in entries if entry[1] is Lane.ROUTINE]
        )
        size = len(entries) * ROW_OVERHEAD
        for entry in entries:
            size += len(entry[5])
        for envelope in envelopes:
            size += len(envelope.message)
        self._put(
            Lane.EMERGENCY if emergencies else Lane.ROUTINE,
            Submission(emergencies, routine, envelopes, size, token),
        )
        self._room.queue(size)

    def keep_alarms(self, changed: Sequence[tuple[bytes, bytes]], gone: Sequence[bytes]) -> None:
        """Store alarms (id, sealed) and forget those in ``gone``, before all routine work."""
        at_ms = int(self._clock.wall() * 1000)
        self._put(Lane.EMERGENCY, Change(lambda store: store.alarms.keep(changed, gone, at_ms)))

    # --- delivering

    def woken(self, lane: Lane) -> asyncio.Event:
        """Set after each commit that brought entries to the lane; the pump clears it."""
        return self._woken[lane]

    async def lease(self, lane: Lane, limit: int, max_bytes: int, *, now: float) -> list[Leased]:
        """The next entries of a lane in the order of arrival, at most ``limit`` and, but for the
        first, at most ``max_bytes`` of sealed bytes. Empty when nothing waits.

        Leases live in memory: a restart hands everything out again.
        """
        ask = self._ask(lane, lambda clerk: clerk.lease(lane, limit, max_bytes, now))
        asked = asyncio.ensure_future(ask)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            # What nobody waits for would be out until the next start.
            self.settle(lane, retry=[(leased.number, now) for leased in await asked])
            raise

    def settle(
        self,
        lane: Lane,
        *,
        done: Sequence[int] = (),
        retry: Sequence[tuple[int, float]] = (),
        dead: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Give leased entries back, by number: delivered, to be tried again from a monotonic
        time on, or dead with the sink's words. One transaction; before any later lease."""
        self._put(lane, Settlement(done, retry, dead))

    async def envelopes(self, lane: Lane, epochs: Sequence[bytes]) -> list[StoredEnvelope]:
        """Those of these epochs' envelopes that are kept here."""
        return await self._ask(lane, lambda clerk: clerk.store.envelopes.get(epochs))

    def envelopes_delivered(self, lane: Lane, epochs: Sequence[bytes]) -> None:
        """The sink has these. They are kept for a while, for a sink that lost them."""
        self._put(lane, Change(lambda store: store.envelopes.delivered(epochs)))

    # --- asking

    async def recent_keys(self) -> list[bytes]:
        """Keys of the last 65,536 messages that had one, delivered ones included, oldest first."""
        return await self._ask(Lane.ROUTINE, lambda clerk: clerk.store.keys.recent())

    async def alarms(self) -> list[tuple[bytes, bytes]]:
        """The kept alarms (id, sealed), oldest change first."""
        return await self._ask(Lane.EMERGENCY, lambda clerk: clerk.store.alarms.all())

    async def dead_letters(self, after: int, limit: int) -> list[DeadLetter]:
        """Dead letters with a number above ``after``, in order."""
        return await self._ask(Lane.ROUTINE, lambda clerk: clerk.store.dead_letters(after, limit))

    async def retry_dead(self, numbers: Sequence[int]) -> int:
        """Put dead letters back into their lanes; how many were there. Damaged ones stay."""
        revived = await self._ask(Lane.ROUTINE, lambda clerk: clerk.retry_dead(numbers))
        for event in self._woken.values():
            event.set()
        return revived

    async def drop_dead(self, numbers: Sequence[int]) -> int:
        """Delete dead letters for good; how many were there."""
        return await self._ask(Lane.ROUTINE, lambda clerk: clerk.drop_dead(numbers))

    async def flush(self, lanes: Iterable[Lane] = Lane) -> None:
        """Returns when everything queued before in these lanes is committed. With the emergency
        lane alone, which no backlog holds up: the watchdog's round trip through the thread."""
        for lane in lanes:
            await self._ask(lane, lambda clerk: None)

    def status(self) -> Status:
        """A copy of the figures. Costs no query."""
        lanes = {
            lane: replace(figures, refused=self._room.refused[lane])
            for lane, figures in self._status.lanes.items()
        }
        return replace(self._status, lanes=lanes)

    async def close(self) -> None:
        """Commit what is queued, close the store, end the thread."""
        self._closing = True
        self._wake.set()
        await self._ended

    # --- between loop and thread

    def _put(self, lane: Lane, item: Item) -> None:
        if self._failure is not None or self._closing:
            raise OutboxCorrupt("the outbox takes nothing more") from self._failure
        self._turns.put(lane, item)
        self._wake.set()

    async def _ask(self, lane: Lane, ask: Callable[[Clerk], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(lane, Question(ask, future))
        self._asked.add(future)
        try:
            return await future
        finally:
            self._asked.discard(future)

    def _landed(
        self,
        tokens: list[object],
        answers: list[tuple[asyncio.Future[Any], object]],
        woken: list[Lane],
    ) -> None:
        for lane in woken:
            self._woken[lane].set()
        for future, answer in answers:
            if isinstance(answer, OutboxFull) and not future.done():
                future.set_exception(answer)
            elif not future.done():
                future.set_result(answer)
        if tokens:
            self._on_committed(tokens)

    def _failed(self, error: BaseException) -> None:
        for future in self._asked:
            if not future.done():
                failure = OutboxCorrupt(f"the outbox has failed: {error}")
                failure.__cause__ = error
                future.set_exception(failure)
        self._on_failure(error)

    # --- the thread

    def _on_thread(self, started: asyncio.Future[None]) -> None:
        store: Store | None = None
        try:
            store = self._open_store()
            clerk = Clerk(store, self._clock, self._room, self._status)
        except BaseException as error:
            if store is not None:
                store.abandon()
            self._closing = True
            self._call(started.set_exception, error)
            self._call(self._ended.set_result, None)
            return
        self._call(started.set_result, None)
        try:
            self._on_thread_serve(clerk)
            clerk.close()
        except BaseException as error:
            self._failure = error
            store.distrust(error)
            store.abandon()
            self._call(self._failed, error)
        self._call(self._ended.set_result, None)

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)

    def _on_thread_serve(self, clerk: Clerk) -> None:
        worked = False
        rest_at = self._clock.monotonic() + _REST_S
        while True:
            if self._turns:
                self._on_thread_gather()
                if self._on_thread_turn(clerk):
                    worked, rest_at = True, self._clock.monotonic() + _REST_S
            elif self._closing:
                return
            elif self._wake.wait(max(rest_at - self._clock.monotonic(), 0.0)):
                self._wake.clear()
            else:
                woken = clerk.rest() if worked else clerk.look_around()
                self._call(self._landed, [], [], woken)
                worked, rest_at = False, self._clock.monotonic() + _REST_S

    def _on_thread_gather(self) -> None:
        """Returns when what waits has waited long enough for company."""
        while not self._closing:
            left = self._turns.wait_s(self._clock.monotonic())
            if left <= 0 or not self._wake.wait(left):
                return
            self._wake.clear()

    def _on_thread_turn(self, clerk: Clerk) -> bool:
        """Everything queued, up to a bound, in one transaction; then the questions, which are no
        work: whether there was any."""
        lane, writes, questions = self._turns.take(self._clock.monotonic())
        tokens = [item.token for item in writes if isinstance(item, Submission)]
        grown: list[Lane] = []
        try:
            grown = clerk.write(lane, writes) if writes else []
        except OutboxFull as error:
            self._call(self._on_refused, tokens, error)
            tokens = []
        answers = [(question.future, clerk.answer(question)) for question in questions]
        self._call(self._landed, tokens, answers, grown)
        return bool(writes)
