"""The delivering half of a gateway in this process: outbox, pumps and cloud sinks, all real."""

from __future__ import annotations

import asyncio
import os
import ssl
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from certs import files
from gateway.clock import SystemClock
from gateway.cose.envelope import Envelope
from gateway.delivery.lanes import PROFILES
from gateway.delivery.pump import Pump
from gateway.errors import DeliveryError
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from gateway.sinks import Identity, SinkFaultError, Verdict
from gateway.sinks.cloud import CloudSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gateway.delivery.lanes import Profile
    from gateway.sinks import Outcome

WITHIN_S = 40.0
"""For everything that is waited for: far more than it takes, so that only a fault takes it."""


async def until(
    holds: Callable[[], object], within_s: float = WITHIN_S, every_s: float = 0.002
) -> bool:
    """Whether a condition that has no event came true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not holds():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(every_s)
    return True


class Try(NamedTuple):
    """One request of a sink that failed."""

    ended: float
    next_began: float
    """Monotonic seconds; of the request after it."""
    error: DeliveryError
    share: float
    """What was drawn for the wait after it, 0 to 1."""


class Watched(CloudSink):
    """A cloud sink that remembers its requests."""

    def __init__(self, url: str, lane: Lane, identity: Identity, timeout_s: float | None) -> None:
        super().__init__(CloudSink.Config(url=url, timeout_s=timeout_s), lane, identity)
        self.began: list[float] = []
        self.ended: list[float] = []
        self.errors: list[DeliveryError | None] = []

    async def deliver_envelope(self, epoch: bytes, message: bytes) -> None:
        self._begin()
        try:
            await super().deliver_envelope(epoch, message)
        except DeliveryError as error:
            self._end(error)
            raise
        self._end(None)

    async def deliver(self, batch: Sequence[Entry]) -> list[Outcome]:
        self._begin()
        try:
            outcomes = await super().deliver(batch)
        except DeliveryError as error:
            self._end(error)
            raise
        unsaid = [one.reason for one in outcomes if one.verdict is Verdict.RETRY]
        self._end(SinkFaultError(unsaid[0]) if unsaid else None)
        return outcomes

    def _begin(self) -> None:
        self.began.append(asyncio.get_running_loop().time())

    def _end(self, error: DeliveryError | None) -> None:
        self.ended.append(asyncio.get_running_loop().time())
        self.errors.append(error)


class Line:
    """``async with``; then :meth:`put` and :meth:`drained`."""

    def __init__(
        self,
        ward: Path,
        outbox: Path,
        url: str,
        *,
        seed: object,
        timeout_s: float | None = None,
        profiles: Mapping[Lane, Profile] = PROFILES,
        writer: type[Writer] = Writer,
    ) -> None:
        """``ward``: the folder of a ward; ``timeout_s``: of a request, instead of the lane's own;
        ``writer``: one that does something beside."""
        keys = ward / "keys"
        context = ssl.create_default_context(cafile=ward / "ca" / "ca.pem")
        context.load_cert_chain(keys / "gateway.pem", keys / "gateway.key")
        identity = Identity("gateway", files.load_private(keys / "gateway.key"), context)
        self._epochs = {lane: os.urandom(16) for lane in Lane}
        self._failures: list[BaseException] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.confirmed: list[bytes] = []
        self.shares: dict[Lane, list[float]] = {lane: [] for lane in Lane}
        self.writer = writer(lambda: Store(outbox), Config(), SystemClock())
        self.sinks = {lane: Watched(url, lane, identity, timeout_s) for lane in Lane}
        self.pumps = {
            lane: Pump(
                lane,
                self.writer,
                self.sinks[lane],
                clock=SystemClock(),
                random=self._drawing(lane, Random(f"{seed} {lane}")),
                on_delivered=self._delivered,
                profile=profiles[lane],
            )
            for lane in Lane
        }

    def _drawing(self, lane: Lane, source: Random) -> Callable[[int], bytes]:
        def draw(count: int) -> bytes:
            drawn = source.randbytes(count)
            self.shares[lane].append(int.from_bytes(drawn, "big") / 256**count)
            return drawn

        return draw

    def _delivered(self, entries: Sequence[Entry], wall: float) -> None:
        self.confirmed += [entry[0] for entry in entries]

    async def __aenter__(self) -> Line:
        await self.writer.start(
            on_committed=lambda _: None,
            on_refused=lambda *_: None,
            on_failure=self._failures.append,
        )
        self._tasks = [asyncio.create_task(pump.run()) for pump in self.pumps.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(pump.stop(0.5) for pump in self.pumps.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.writer.close()

    def put(self, count: int, lane: Lane) -> list[bytes]:
        """New records of a lane; their ids."""
        epoch = self._epochs[lane]
        envelope = Envelope(epoch, "gateway", b"p" * 16, lane, 1, (), b"envelope")
        entries = [
            Entry(os.urandom(16), lane, b"p" * 16, 1_795_000_000_000, epoch, os.urandom(64), None)
            for _ in range(count)
        ]
        self.writer.submit(entries, [envelope], count)
        return [entry.id for entry in entries]

    def waiting(self, lane: Lane) -> int:
        """Records of a lane that are not settled."""
        return self.writer.status().lanes[lane].rows

    async def drained(
        self, within_s: float = WITHIN_S, over: Callable[[], bool] = lambda: False
    ) -> bool:
        """Whether the outbox was empty in time. ``over``: that it is not waited for any more."""
        await self.writer.flush()

        def empty() -> bool:
            return not any(map(self.waiting, Lane))

        await until(lambda: empty() or self.broken() is not None or over(), within_s)
        return empty()

    def broken(self) -> str | None:
        """What has ended that must not."""
        if self._failures:
            return f"the outbox has failed: {self._failures[0]!r}"
        for task in self._tasks:
            if task.done():
                return f"a pump has ended: {task!r}"
        return None

    async def dead(self) -> dict[bytes, str]:
        """Record id -> the cloud store's words."""
        letters = await self.writer.dead_letters(0, 1 << 20)
        return {letter.entry.id: letter.reason for letter in letters if letter.entry}

    def failed(self, lane: Lane) -> Iterator[Try]:
        """Requests of a lane that were followed by a wait, each with what was drawn for it."""
        sink, shares = self.sinks[lane], iter(self.shares[lane])
        for place, error in enumerate(sink.errors):
            if error is not None and place + 1 < len(sink.began):
                yield Try(sink.ended[place], sink.began[place + 1], error, next(shares, 0.0))
