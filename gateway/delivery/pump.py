"""The pump: one task a lane, from lease to settlement.

A pump holds one batch at a time, delivers it and settles it; each lane has its own pump, sink and
connection, so nothing routine stands before an emergency.

**Nothing is lost by waiting.** A transient failure backs off the *lane*: the batch stays as it is,
no row is rewritten, the breaker says when and how much to try again. There is no last try.

**One record must not hold up the rest.** A batch refused as a whole is halved until the record
that is the cause stands alone; it becomes a dead letter with the sink's words. A batch over which
the sink breaks again and again is halved too, and the record that is left over is parked: tried
again later, behind the others.

**A sink that refuses everything is not a poisoned queue.** After :data:`REFUSALS_IN_A_ROW` records
refused one after the other, nothing more is given up until something is delivered.

**After an outage emergencies go first.** The lanes back off apart from each other, so the routine
lane could be the first to find the sink again; before each of its new tries it lets the emergency
pump have one. It waits for that, never the other way round. A wait that the sink wished for is kept
all the same; the emergency lane's profile bounds it.

**An alarm does not wait for a clock.** A new entry of the emergency lane ends the lane's waiting:
the store may be back, see :attr:`Profile.hurry_s`. Nor for the answer to a question after health:
that connection is given up, and the alarm gets a new one.

An envelope goes before the first record that needs it. A sink that says it misses one gets it
again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.delivery.breaker import Breaker, State
from gateway.delivery.courier import Courier
from gateway.delivery.lanes import PROFILES, BatchSize
from gateway.delivery.retry import wait_s, wished_s
from gateway.delivery.status import PumpStatus
from gateway.delivery.waiting import done_before, wait_for_any
from gateway.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from gateway.sinks import BatchTooLargeError, MissingEnvelopesError, SinkFaultError, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.delivery.lanes import Profile
    from gateway.lane import Lane
    from gateway.outbox.entry import Entry, Leased
    from gateway.outbox.writer import Writer
    from gateway.sinks import Outcome, Sink

REFUSALS_IN_A_ROW = 20
FAULTS_BEFORE_HALVING = 3
PARKED_MOST = 64
"""Parked entries of a lane. More, and it is not the records: the lane waits."""

FIRST_WITHIN_S = 2.0
"""How long a pump lets another go first: a destination that hangs must not hold up both lanes."""

PROBE_ROWS = 8
"""Entries that a half-open breaker risks."""


class Pump:
    """Delivers one lane. Give each lane a pump and a sink of its own."""

    def __init__(
        self,
        lane: Lane,
        writer: Writer,
        sink: Sink,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        on_delivered: Callable[[Sequence[Entry], float], None],
        before: Pump | None = None,
        profile: Profile | None = None,
    ) -> None:
        """``on_delivered(entries, wall)``: called in the event loop when the sink has confirmed
        entries, before they are settled. ``before``: a pump that goes first when both have been
        backing off. ``profile``: the lane's own if None."""
        self._lane = lane
        self._writer = writer
        self._sink = sink
        self._clock = clock
        self._random = random
        self._on_delivered = on_delivered
        self._before = before
        self._profile = PROFILES[lane] if profile is None else profile
        self._courier = Courier(lane, writer, sink)
        self._breaker = Breaker()
        self._rows = BatchSize(self._profile.rows)
        self._work: deque[list[Leased]] = deque()
        self._parked: dict[int, float] = {}
        self._faults = 0
        self._refusals = 0
        self._next_lease = 0.0
        self._status = PumpStatus()
        self._stopping = asyncio.Event()
        self._retry = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._task: asyncio.Task[object] | None = None

    async def run(self) -> None:
        """Deliver until :meth:`stop`. Ends early only with an error that is a bug."""
        self._task = asyncio.current_task()
        self._ended.clear()
        try:
            await self._sink.open()
            while not self._stopping.is_set():
                if self._work or await self._lease():
                    await self._try()
                else:
                    await self._idle()
        finally:
            self._status.state = "stopped"
            try:
                await self._sink.close()
            finally:
                self._ended.set()
            for batch in self._work:
                self._writer.settle(self._lane, retry=[(leased.number, 0.0) for leased in batch])
            self._work.clear()

    async def stop(self, grace_s: float) -> None:
        """Let the delivery in flight finish for up to ``grace_s``, then end :meth:`run`. What was
        not confirmed stays in the outbox."""
        self._stopping.set()
        try:
            await asyncio.wait_for(self._ended.wait(), grace_s)
        except TimeoutError:
            if self._task is not None:
                self._task.cancel()
            await self._ended.wait()

    async def go_first(self) -> None:
        """If this pump is backing off, have it try now, unless the sink wished for a pause; returns
        when nothing waits in it any more, when it backs off again, or after
        :data:`FIRST_WITHIN_S`."""
        if self._status.state != "backing off":
            return
        self._at_rest.clear()
        self._retry.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._at_rest.wait(), FIRST_WITHIN_S)

    def status(self) -> PumpStatus:
        """A copy."""
        return replace(self._status, failures=self._breaker.failures, parked=len(self._parked))

    # --- what to do next

    async def _lease(self) -> bool:
        if (left := self._next_lease - self._clock.monotonic()) > 0:
            await self._wait(left)
        now = self._clock.monotonic()
        self._writer.woken(self._lane).clear()
        batch = await self._writer.lease(self._lane, self._rows.rows, self._profile.size, now=now)
        if batch:
            if 2 * len(batch) < self._rows.rows:
                self._next_lease = now + self._profile.gather_s
            for leased in batch:
                self._parked.pop(leased.number, None)
            self._work.append(batch)
        return bool(batch)

    async def _idle(self) -> None:
        self._status.state = "idle"
        self._at_rest.set()
        waits = [self._profile.check_every_s] if self._profile.check_every_s else []
        if self._parked:
            waits.append(max(min(self._parked.values()) - self._clock.monotonic(), 0.0))
        news = self._writer.woken(self._lane)
        if await self._wait(min(waits, default=None), news):
            return
        if self._profile.check_every_s and not self._parked:
            try:
                if await done_before(self._sink.check(), news, self._stopping):
                    self._note_success()
            except DeliveryError as error:
                self._note_failure(error)

    async def _try(self) -> None:
        """Deliver the first batch of the work; afterwards it is settled, split, or still there."""
        batch = self._work.popleft()
        if self._breaker.state(self._clock.monotonic()) is not State.CLOSED:
            batch = self._keep_head(batch, PROBE_ROWS)
        self._status.state = "delivering"
        try:
            batch = await self._with_envelopes(batch)
            outcomes = await self._sink.deliver([leased.entry for leased in batch]) if batch else []
        except BaseException as error:
            # First of all, whatever happened: the batch is still ours.
            self._work.appendleft(batch)
            if not isinstance(error, DeliveryError):
                raise
            await self._after_failure(error)
        else:
            if batch:
                await self._after_answer(batch, outcomes)

    def _keep_head(self, batch: list[Leased], rows: int) -> list[Leased]:
        if len(batch) > rows:
            self._work.appendleft(batch[rows:])
        return batch[:rows]

    # --- answers

    async def _after_answer(self, batch: list[Leased], outcomes: Sequence[Outcome]) -> None:
        done, retry, dead = [], [], []
        for leased, outcome in zip(batch, outcomes, strict=True):
            if outcome.verdict is Verdict.DELIVERED:
                done.append(leased)
            elif outcome.verdict is Verdict.REFUSED:
                dead.append((leased.number, outcome.reason))
            else:
                retry.append(leased)
        if done:
            wall = self._clock.wall()
            self._on_delivered([leased.entry for leased in done], wall)
            self._status.delivered += len(done)
            self._refusals = 0
        self._status.refused += len(dead)
        self._writer.settle(self._lane, done=[leased.number for leased in done], dead=dead)
        if done or dead:
            self._faults = 0
            self._courier.batch_taken()
            self._note_success()
            self._rows.grow()
        if retry:
            self._work.appendleft(retry)
            reason = next(o.reason for o in outcomes if o.verdict is Verdict.RETRY)
            await self._after_failure(SinkFaultError(reason))

    async def _after_failure(self, error: DeliveryError) -> None:
        """The first batch of the work has failed as a whole."""
        batch = self._work[0]
        if isinstance(error, MissingEnvelopesError):
            missed = {leased.entry.epoch for leased in batch} & set(error.epochs)
            if self._courier.sink_misses(missed):
                return  # the next try sends them again
        if isinstance(error, PermanentDeliveryError | BatchTooLargeError):
            if isinstance(error, BatchTooLargeError):
                self._rows.halve(len(batch))
            if len(batch) > 1:
                self._halve()
            elif self._refusals < REFUSALS_IN_A_ROW:
                self._give_up(self._work.popleft(), str(error))
            else:
                self._park_if_room()
                await self._back_off(error)
            return
        if isinstance(error, SinkFaultError):
            self._faults += 1
            if self._faults >= FAULTS_BEFORE_HALVING:
                self._faults = 0
                if len(batch) > 1:
                    self._halve()
                else:
                    self._park_if_room()
        await self._back_off(error)

    def _halve(self) -> None:
        batch = self._work.popleft()
        middle = len(batch) // 2
        self._work.extendleft([batch[middle:], batch[:middle]])

    def _give_up(self, entries: list[Leased], reason: str) -> None:
        self._refusals += 1
        self._status.refused += len(entries)
        self._writer.settle(self._lane, dead=[(leased.number, reason) for leased in entries])

    def _park(self, entries: list[Leased]) -> None:
        """Behind the others, for as long as the lane waits at most."""
        due = self._clock.monotonic() + self._profile.retry.cap_s
        self._parked |= dict.fromkeys((leased.number for leased in entries), due)
        self._writer.settle(self._lane, retry=[(leased.number, due) for leased in entries])

    def _park_if_room(self) -> None:
        """The first batch of the work."""
        if len(self._parked) < PARKED_MOST:
            self._park(self._work.popleft())

    async def _back_off(self, error: DeliveryError) -> None:
        self._note_failure(error)
        self._status.state = "backing off"
        self._retry.clear()
        self._at_rest.set()
        await self._wait_for_next_try(error)
        self._status.next_try = None
        if self._before is not None and not self._stopping.is_set():
            await self._before.go_first()

    async def _wait_for_next_try(self, error: DeliveryError) -> None:
        hurry_s, news = self._profile.hurry_s, self._writer.woken(self._lane)
        left = self._breaker.next_try - self._clock.monotonic()
        if wished_s(error) is not None:
            await self._wait(left)
        elif hurry_s is None:
            await self._wait(left, self._retry)
        elif not await self._wait(min(left, hurry_s), self._retry):
            await self._wait(self._breaker.next_try - self._clock.monotonic(), self._retry, news)
            # One try for what came; the lane is leased from again before it is ever idle.
            news.clear()

    def _note_failure(self, error: DeliveryError) -> None:
        failures = self._breaker.failures + 1
        wait = wait_s(
            self._profile.retry, failures, retry_after_s=wished_s(error), random=self._random
        )
        self._breaker.failed(self._clock.monotonic() + wait)
        self._status.failure, self._status.kind = str(error), error.kind
        self._status.last_failure = self._clock.wall()
        self._status.next_try = self._status.last_failure + wait

    def _note_success(self) -> None:
        self._breaker.succeeded()
        self._status.failure = self._status.kind = ""
        self._status.last_success = self._clock.wall()
        self._status.next_try = None

    async def _wait(self, seconds: float | None, *events: asyncio.Event) -> bool:
        """Until one of the events, the time or the stop; whether it was an event."""
        await wait_for_any(seconds, *events, self._stopping)
        return any(event.is_set() for event in events)

    # --- envelopes

    async def _with_envelopes(self, batch: list[Leased]) -> list[Leased]:
        """Send the envelopes that the batch needs; it without those that were given up."""
        refused = await self._courier.send({leased.entry.epoch for leased in batch})
        if not refused:
            return batch
        hit = sum(leased.entry.epoch in refused for leased in batch)  # parked before, perhaps
        if self._refusals >= REFUSALS_IN_A_ROW and len(self._parked) + hit > PARKED_MOST:
            raise TransientDeliveryError(next(iter(refused.values())))
        for epoch, reason in refused.items():
            entries = [leased for leased in batch if leased.entry.epoch == epoch]
            if self._refusals < REFUSALS_IN_A_ROW:
                self._give_up(entries, reason)
            else:
                self._park(entries)
        return [leased for leased in batch if leased.entry.epoch not in refused]
