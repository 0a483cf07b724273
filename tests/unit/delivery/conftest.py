"""A real writer and a sink in memory that can be told to misbehave."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from gateway.clock import SystemClock
from gateway.cose.envelope import Envelope
from gateway.delivery.lanes import Profile
from gateway.delivery.pump import Pump
from gateway.delivery.retry import Policy
from gateway.errors import DeliveryError, PermanentDeliveryError
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from gateway.sinks import MissingEnvelopesError, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

EPOCH = b"e" * 16

FAST = Profile(
    rows=100,
    size=1 << 20,
    retry=Policy(base_s=0.001, cap_s=0.004, retry_after_cap_s=0.05),
    check_every_s=None,
    hurry_s=None,
    gather_s=0.0,
)
"""Real profiles wait for seconds."""


class MemorySink:
    """Keeps what it is given. A script of errors comes first; poison and refusals are by id."""

    class Config:
        pass

    def __init__(self, config: Any = None, lane: Lane = Lane.ROUTINE, identity: Any = None) -> None:
        self.records: dict[bytes, Entry] = {}
        self.envelopes: dict[bytes, bytes] = {}
        self.batches: list[list[Entry]] = []
        self.script: deque[DeliveryError] = deque()
        self.errors_by_id: dict[bytes, DeliveryError] = {}
        self.outcomes_by_id: dict[bytes, Outcome] = {}
        self.refused_envelopes: dict[bytes, DeliveryError] = {}
        self.checks = 0
        self.opened = False
        self.delay = asyncio.Event()
        self.delay.set()
        self.health = asyncio.Event()
        self.health.set()

    async def open(self) -> None:
        self.opened = True

    async def check(self) -> None:
        self.checks += 1
        await self.health.wait()
        if self.script:
            raise self.script.popleft()

    async def deliver_envelope(self, epoch: bytes, message: bytes) -> None:
        if epoch in self.refused_envelopes:
            raise self.refused_envelopes[epoch]
        self.envelopes[epoch] = message

    async def deliver(self, batch: Sequence[Entry]) -> list[Outcome]:
        self.batches.append(list(batch))
        await self.delay.wait()
        if self.script:
            raise self.script.popleft()
        for entry in batch:
            if entry.id in self.errors_by_id:
                raise self.errors_by_id[entry.id]
        missing = {entry.epoch for entry in batch} - self.envelopes.keys()
        if missing:
            raise MissingEnvelopesError("409", sorted(missing))
        outcomes = [self.outcomes_by_id.get(e.id, Outcome(Verdict.DELIVERED)) for e in batch]
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome.verdict is Verdict.DELIVERED:
                self.records.setdefault(entry.id, entry)
        return outcomes

    async def close(self) -> None:
        self.opened = False


class Line:
    """A writer, a sink and a pump of the routine lane."""

    def __init__(self, path: Path, profile: Profile) -> None:
        self._numbers = count(1)
        self.sink = MemorySink()
        self.confirmed: list[Entry] = []
        self.writer = Writer(lambda: Store(path), Config(), SystemClock())
        self.profile = profile
        self.pump = self.make_pump()
        self.task: asyncio.Task[None] | None = None

    def make_pump(self, before: Pump | None = None) -> Pump:
        return Pump(
            Lane.ROUTINE,
            self.writer,
            self.sink,
            clock=SystemClock(),
            random=Random(0).randbytes,
            on_delivered=self._delivered,
            before=before,
            profile=self.profile,
        )

    def emergency_pump(self, sink: MemorySink, profile: Profile) -> Pump:
        return Pump(
            Lane.EMERGENCY,
            self.writer,
            sink,
            clock=SystemClock(),
            random=Random(0).randbytes,
            on_delivered=self._delivered,
            profile=profile,
        )

    def _delivered(self, entries: Sequence[Entry], wall: float) -> None:
        assert abs(wall - time.time()) < 60
        self.confirmed += entries

    def put(
        self,
        n: int = 1,
        *,
        lane: Lane = Lane.ROUTINE,
        epoch: bytes = EPOCH,
        envelope: bool = True,
    ) -> list[Entry]:
        entries = []
        for _ in range(n):
            number = next(self._numbers)
            name = number.to_bytes(16, "big")
            entries.append(Entry(name, lane, b"p" * 16, number, epoch, b"sealed" + name, None))
        envelopes = [Envelope(epoch, "gw", b"p" * 16, Lane.ROUTINE, 1, (), b"env" + epoch)]
        self.writer.submit(entries, envelopes if envelope else [], n)
        return entries

    def run(self) -> None:
        self.task = asyncio.create_task(self.pump.run())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                assert self.task is None or not self.task.done(), "the pump has ended"
                await asyncio.sleep(0.002)

    async def drained(self) -> None:
        """Until the outbox holds no entry that could still be delivered."""
        await self.writer.flush()
        await self.until(lambda: self.writer.status().lanes[Lane.ROUTINE].rows == 0)

    async def dead(self) -> dict[bytes, str]:
        letters = await self.writer.dead_letters(0, 1000)
        return {letter.entry.id: letter.reason for letter in letters if letter.entry}


@pytest.fixture
def profile() -> Profile:
    return FAST


@pytest.fixture
async def line(tmp_path: Path, profile: Profile) -> AsyncIterator[Line]:
    line = Line(tmp_path / "outbox.db", profile)
    failures: list[BaseException] = []
    await line.writer.start(
        on_committed=lambda _: None, on_refused=lambda *_: None, on_failure=failures.append
    )
    yield line
    line.sink.delay.set()
    await line.pump.stop(5)
    if line.task is not None:
        await asyncio.gather(line.task, return_exceptions=True)
    await line.writer.close()
    assert failures == []


PERMANENT = PermanentDeliveryError("400 malformed")
