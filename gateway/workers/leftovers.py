"""Outboxes of workers that are no more: what waits in them is delivered, and nothing comes in.

The first worker opens them beside its own. Each has its own writer and pumps, and rests once it is
empty, of dead letters too, which people may want to try again; its file stays, with its figures,
for when that worker comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.delivery.deliveries import Deliveries
from gateway.outbox.config import Config
from gateway.outbox.salvage import open_store
from gateway.outbox.writer import Writer
from gateway.workers.place import numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.clock import Clock
    from gateway.lane import Lane
    from gateway.sinks import Sink

_log = logging.getLogger("workers")

_LOOK_S: Final = 1.0
"""How often it is looked whether one is empty."""

_NO_QUOTA: Final = Config(max_bytes=1, reserve_bytes=0)
"""Nothing comes in; what is there counts as it is."""


class Leftovers:
    """All of them. ``ended``: hears why one cannot go on; the gateway cannot then."""

    def __init__(
        self,
        state: Path,
        count: int,
        clock: Clock,
        *,
        make_sink: Callable[[Lane], Sink],
        random: Callable[[int], bytes],
        ended: Callable[[str], None],
    ) -> None:
        """``count``: of the workers that there are."""
        self._left = {
            number: _Leftover(path, make_sink, clock, random, ended)
            for number, path in numbered(state).items()
            if number >= count
        }

    async def start(self) -> None:
        """Open them and deliver. Raises OutboxError."""
        for one in self._left.values():
            await one.start()

    async def stop(self, grace_s: float) -> None:
        """Let deliveries in flight finish for up to ``grace_s``; what is left stays."""
        await asyncio.gather(*(one.stop(grace_s) for one in self._left.values()))

    async def renew(self, grace_s: float) -> None:
        """See :meth:`gateway.delivery.deliveries.Deliveries.renew`."""
        await asyncio.gather(*(one.renew(grace_s) for one in self._left.values()))

    def status(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """``outbox`` and ``delivery`` of each, as in the status of a worker; the second is empty
        for one in which nothing waited."""
        return [one.status() for one in self._left.values()]

    def writers(self) -> dict[int, Writer]:
        """Of those that do not rest, by the number of the outbox."""
        return {number: one.writer for number, one in self._left.items() if one.awake()}


class _Leftover:
    def __init__(
        self,
        path: Path,
        make_sink: Callable[[Lane], Sink],
        clock: Clock,
        random: Callable[[int], bytes],
        ended: Callable[[str], None],
    ) -> None:
        self._path = path
        self._ended = ended
        self.writer = Writer(partial(open_store, path), _NO_QUOTA, clock)
        self._deliveries = Deliveries(
            self.writer, make_sink, clock=clock, random=random, ended=ended
        )
        self._stopping = asyncio.Event()
        self._grace_s = _LOOK_S
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.writer.start(
            on_committed=lambda tokens: None,
            on_refused=lambda tokens, error: None,  # nothing comes in
            on_failure=self._failed,
        )
        if self._needed():
            _log.warning(
                "%s: of a worker that is no more; %d records wait in it and are delivered",
                self._path.name,
                self._waiting(),
            )
            self._deliveries.start()
        self._life = asyncio.create_task(self._live(), name=f"deliver {self._path.name}")

    async def stop(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._stopping.set()
        if self._life is not None:
            await self._life

    async def renew(self, grace_s: float) -> None:
        if self.awake():
            await self._deliveries.renew(grace_s)

    async def _live(self) -> None:
        """Until it is empty or to be stopped."""
        while self._needed() and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
        await self._deliveries.stop(self._grace_s)
        await self.writer.close()

    def awake(self) -> bool:
        return self._life is not None and not self._life.done()

    def _needed(self) -> bool:
        return self._waiting() > 0 or self.writer.status().dead > 0

    def _waiting(self) -> int:
        return sum(lane.rows for lane in self.writer.status().lanes.values())

    def _failed(self, error: BaseException) -> None:
        _log.critical("%s has failed: %s", self._path.name, error)
        self._ended(f"{self._path.name}: {error}")

    def status(self) -> tuple[dict[str, Any], dict[str, Any]]:
        outbox = asdict(self.writer.status())
        # Nothing can come in: room that it does not have.
        outbox["max_bytes"] = outbox["reserve_bytes"] = 0
        return outbox, self._deliveries.status()
