"""All deliveries of one outbox: a pump a lane, each with a sink of its own, and their latencies."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from gateway.delivery.pump import Pump
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.outbox.entry import Entry
    from gateway.outbox.writer import Writer
    from gateway.sinks import Sink

_log = logging.getLogger("delivery")

_LATENCIES: Final = 1024


class Deliveries:
    """``start()`` and ``await stop()``. ``ended``: hears why one has ended because of a bug."""

    def __init__(
        self,
        writer: Writer,
        make_sink: Callable[[Lane], Sink],
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        ended: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._make_sink = make_sink
        self._clock = clock
        self._random = random
        self._ended = ended
        self._pumps: dict[Lane, Pump] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.latencies: dict[Lane, deque[float]] = {lane: deque(maxlen=_LATENCIES) for lane in Lane}
        """Of the last entries: milliseconds from the datagram to the sink's confirmation."""

    def start(self) -> None:
        """In the event loop, once the outbox is open. Raises ConfigError for a sink."""
        self._start({lane: self._make_sink(lane) for lane in Lane})

    def _start(self, sinks: dict[Lane, Sink]) -> None:
        self._pumps.clear()
        self._tasks.clear()
        for lane, sink in sinks.items():
            pump = Pump(
                lane,
                self._writer,
                sink,
                clock=self._clock,
                random=self._random,
                on_delivered=self._delivered,
                before=self._pumps.get(Lane.EMERGENCY),
            )
            self._pumps[lane] = pump
            task = asyncio.create_task(pump.run(), name=f"deliver {lane}")
            task.add_done_callback(self._pump_ended)
            self._tasks.append(task)

    async def stop(self, grace_s: float) -> None:
        """Let what is in flight finish for up to ``grace_s``; the rest stays in the outbox."""
        self._stopped = True
        await self._halt(grace_s)

    async def _halt(self, grace_s: float) -> None:
        await asyncio.gather(*(pump.stop(grace_s) for pump in self._pumps.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def renew(self, grace_s: float) -> None:
        """Go on with new sinks, as when their address or our certificate has changed. What is in
        flight has up to ``grace_s``; what is cut off is sent again, and known there by its id.
        Raises ConfigError for a sink, and nothing has changed then."""
        if not self._pumps:
            return
        sinks = {lane: self._make_sink(lane) for lane in Lane}
        await self._halt(grace_s)
        if not self._stopped:  # meanwhile
            self._start(sinks)

    def status(self) -> dict[str, dict[str, Any]]:
        """Of each lane, see :class:`gateway.delivery.status.PumpStatus`."""
        return {lane: asdict(pump.status()) for lane, pump in self._pumps.items()}

    def _delivered(self, entries: Sequence[Entry], wall: float) -> None:
        now_ms = wall * 1000
        if entries:  # of one lane
            latencies = self.latencies[entries[0].lane]
            latencies.extend([now_ms - entry[3] for entry in entries])

    def _pump_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.critical("a delivery ended because of a bug", exc_info=task.exception())
            self._ended(f"{task.get_name()}: {task.exception()!r}")
