"""gateway.delivery.deliveries"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.delivery.deliveries import Deliveries
from gateway.errors import ConfigError
from gateway.lane import Lane
from tests.unit.delivery.conftest import MemorySink

if TYPE_CHECKING:
    from tests.unit.delivery.conftest import Line


class Both:
    """The deliveries of a line's outbox, and the sinks that were made for them."""

    def __init__(self, line: Line) -> None:
        self.sinks: list[MemorySink] = []
        self.ended: list[str] = []
        self.broken: set[Lane] = set()
        self.deliveries = Deliveries(
            line.writer,
            self._make,
            clock=SystemClock(),
            random=bytes,
            ended=self.ended.append,
        )

    def _make(self, lane: Lane) -> MemorySink:
        if lane in self.broken:
            raise ConfigError(["the certificate is half written"])
        self.sinks.append(MemorySink(lane=lane))
        return self.sinks[-1]


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_renewal_that_fails_leaves_both_lanes_delivering(line: Line, lane: Lane) -> None:
    both = Both(line)
    both.deliveries.start()
    both.broken = {lane}
    with pytest.raises(ConfigError):
        await both.deliveries.renew(0.1)
    line.put(1)
    await line.drained()
    assert list(both.deliveries.status()) == list(Lane)
    await both.deliveries.stop(1.0)


async def test_a_renewal_starts_nothing_after_the_stop(line: Line) -> None:
    both = Both(line)
    both.deliveries.start()
    await line.until(lambda: all(sink.opened for sink in both.sinks))
    for sink in both.sinks:
        sink.delay.clear()
    line.put(1)
    await line.until(lambda: any(sink.batches for sink in both.sinks))
    renewal = asyncio.create_task(both.deliveries.renew(0.05))
    await asyncio.sleep(0)
    await both.deliveries.stop(0.05)
    await renewal
    assert not any(sink.opened for sink in both.sinks)
    assert {one["state"] for one in both.deliveries.status().values()} == {"stopped"}
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("deliver")]
    assert both.ended == []


async def test_what_was_under_way_is_delivered_by_the_new_sink(line: Line) -> None:
    both = Both(line)
    both.deliveries.start()
    await line.until(lambda: all(sink.opened for sink in both.sinks))
    for sink in both.sinks:
        sink.delay.clear()
    entries = line.put(3)
    await line.until(lambda: any(sink.batches for sink in both.sinks))
    await both.deliveries.renew(0.05)
    await line.drained()
    assert [list(sink.records.values()) for sink in both.sinks if sink.records] == [entries]
    await both.deliveries.stop(1.0)
