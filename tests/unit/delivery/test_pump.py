"""gateway.delivery.pump"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.pump import PARKED_MOST, REFUSALS_IN_A_ROW
from gateway.delivery.retry import Policy
from gateway.errors import PermanentDeliveryError, TransientDeliveryError
from gateway.lane import Lane
from gateway.sinks import (
    BatchTooLargeError,
    NotWelcomeError,
    Outcome,
    SinkFaultError,
    Verdict,
)
from tests.unit.delivery.conftest import MemorySink

if TYPE_CHECKING:
    from gateway.delivery.lanes import Profile
    from gateway.errors import DeliveryError
    from tests.unit.delivery.conftest import Line

PERMANENT = PermanentDeliveryError("400 malformed")


async def test_what_is_committed_is_delivered_in_order_and_forgotten(line: Line) -> None:
    early = line.put(150)
    line.run()
    await line.drained()
    late = line.put(1)
    await line.drained()
    assert list(line.sink.records.values()) == early + late
    assert line.confirmed == early + late
    assert [len(batch) for batch in line.sink.batches] == [100, 50, 1]
    status = line.pump.status()
    assert (status.delivered, status.refused, status.failure) == (151, 0, "")
    assert status.last_success is not None


async def test_a_lone_record_is_delivered_without_a_second(line: Line) -> None:
    line.run()
    await line.until(lambda: line.pump.status().state == "idle" and line.sink.opened)
    line.put(1)
    await line.until(lambda: len(line.sink.records) == 1)


@pytest.mark.parametrize(
    "error",
    [
        TransientDeliveryError("refused"),
        TransientDeliveryError("503", 0.01),
        NotWelcomeError("403"),
        SinkFaultError("500"),
    ],
)
async def test_a_transient_failure_loses_and_doubles_nothing(
    line: Line, error: DeliveryError
) -> None:
    line.sink.script.extend([error] * 7)
    entries = line.put(60)
    line.run()
    await line.drained()
    assert line.confirmed == entries
    assert await line.dead() == {}


async def test_the_status_says_what_is_wrong_until_it_is_not(line: Line) -> None:
    line.sink.script.extend([NotWelcomeError("403 unknown gateway")] * 5)
    line.put(1)
    line.run()
    await line.until(lambda: line.pump.status().failures >= 3)
    status = line.pump.status()
    assert (status.failure, status.kind) == ("403 unknown gateway", "not_welcome")
    assert status.last_failure is not None
    await line.drained()
    assert (line.pump.status().failure, line.pump.status().failures) == ("", 0)


async def test_a_wished_wait_is_kept(line: Line) -> None:
    line.sink.script.append(TransientDeliveryError("503", 0.05))
    line.put(1)
    line.run()
    loop = asyncio.get_running_loop()
    await line.until(lambda: len(line.sink.batches) == 1)
    began = loop.time()
    await line.drained()
    assert loop.time() - began >= 0.04


async def test_an_outage_is_probed_with_little(line: Line) -> None:
    line.sink.script.extend([TransientDeliveryError("away")] * 6)
    line.put(100)
    line.run()
    await line.drained()
    sizes = [len(batch) for batch in line.sink.batches]
    assert sizes[:3] == [100, 100, 100]
    assert max(sizes[3:7]) <= 8


async def test_one_poisoned_record_of_many_is_found(line: Line) -> None:
    entries = line.put(500)
    poison = entries[333]
    line.sink.errors_by_id[poison.id] = PERMANENT
    line.run()
    await line.drained()
    assert await line.dead() == {poison.id: "400 malformed"}
    assert line.confirmed == [entry for entry in entries if entry is not poison]
    assert line.pump.status().refused == 1


async def test_many_poisoned_records_among_good_ones_are_all_found(line: Line) -> None:
    entries = line.put(30 * (REFUSALS_IN_A_ROW + 5))
    poison = entries[::30]
    for entry in poison:
        line.sink.errors_by_id[entry.id] = PERMANENT
    line.run()
    await line.drained()
    assert (await line.dead()).keys() == {entry.id for entry in poison}
    assert line.pump.status().last_failure is None, "no wait"


async def test_a_refused_record_does_not_touch_its_neighbours(line: Line) -> None:
    entries = line.put(3)
    line.sink.outcomes_by_id[entries[1].id] = Outcome(Verdict.REFUSED, "other bytes under this id")
    line.run()
    await line.drained()
    assert await line.dead() == {entries[1].id: "other bytes under this id"}
    assert line.confirmed == [entries[0], entries[2]]


async def test_a_record_that_the_answer_forgets_is_tried_again(line: Line) -> None:
    entries = line.put(3)
    line.sink.outcomes_by_id[entries[1].id] = Outcome(Verdict.RETRY, "no word")
    line.run()
    await line.until(lambda: len(line.sink.batches) >= 3)
    line.sink.outcomes_by_id.clear()
    await line.drained()
    assert {entry.id for entry in line.confirmed} == {entry.id for entry in entries}


async def test_a_batch_too_large_is_halved_and_stays_small(line: Line) -> None:
    line.sink.script.extend([BatchTooLargeError("413")] * 2)
    entries = line.put(200)
    line.run()
    await line.drained()
    assert line.confirmed == entries
    assert [len(batch) for batch in line.sink.batches][:3] == [100, 50, 25]
    assert max(len(batch) for batch in line.sink.batches[2:]) <= 60


async def test_a_record_too_large_by_itself_is_a_dead_letter(line: Line) -> None:
    entries = line.put(4)
    line.sink.errors_by_id[entries[2].id] = BatchTooLargeError("413 too large")
    line.run()
    await line.drained()
    assert await line.dead() == {entries[2].id: "413 too large"}


async def test_a_record_over_which_the_sink_breaks_is_parked(line: Line) -> None:
    entries = line.put(20)
    cursed = entries[7]
    line.sink.errors_by_id[cursed.id] = SinkFaultError("500")
    line.run()
    await line.until(lambda: len(line.confirmed) == 19)
    assert await line.dead() == {}, "it may be the sink's fault: it waits"
    line.sink.errors_by_id.clear()
    await line.drained()
    assert line.confirmed[-1] == cursed


async def test_a_sink_that_always_breaks_parks_few(line: Line) -> None:
    entries = line.put(PARKED_MOST + 30)
    for entry in entries:
        line.sink.errors_by_id[entry.id] = SinkFaultError("500")
    line.run()
    await line.until(lambda: line.pump.status().failures > 600)
    assert line.pump.status().parked <= PARKED_MOST
    line.sink.errors_by_id.clear()
    await line.drained()
    assert {entry.id for entry in line.confirmed} == {entry.id for entry in entries}


async def test_a_sink_that_refuses_everything_is_given_no_more_to_kill(line: Line) -> None:
    """A wrong configuration must not turn the whole queue into dead letters."""
    entries = line.put(200)
    for entry in entries:
        line.sink.errors_by_id[entry.id] = PERMANENT
    line.run()
    await line.until(lambda: line.pump.status().failures > 20)
    assert len(await line.dead()) == REFUSALS_IN_A_ROW
    assert line.pump.status().failure == "400 malformed"
    line.sink.errors_by_id.clear()
    await line.drained()
    assert len(line.confirmed) == 200 - REFUSALS_IN_A_ROW


async def test_a_stop_lets_the_delivery_in_flight_finish(line: Line) -> None:
    line.sink.delay.clear()
    line.put(5)
    line.run()
    await line.until(lambda: len(line.sink.batches) == 1)
    stopping = asyncio.create_task(line.pump.stop(10))
    await asyncio.sleep(0)
    line.sink.delay.set()
    await stopping
    assert len(line.confirmed) == 5
    assert not line.sink.opened
    assert line.pump.status().state == "stopped"


async def test_what_a_stop_interrupts_is_delivered_by_the_next_pump(line: Line) -> None:
    line.sink.delay.clear()
    entries = line.put(5)
    line.run()
    await line.until(lambda: len(line.sink.batches) == 1)
    await line.pump.stop(0.01)
    assert line.task is not None
    with pytest.raises(asyncio.CancelledError):
        await line.task
    assert line.confirmed == []
    line.sink.delay.set()
    line.pump = line.make_pump()
    line.run()
    await line.drained()
    assert line.confirmed == entries


class TestHealth:
    @pytest.fixture
    def profile(self, profile: Profile) -> Profile:
        return replace(profile, check_every_s=0.005)

    async def test_an_idle_lane_keeps_its_connection_warm(self, line: Line) -> None:
        line.run()
        await line.until(lambda: line.sink.checks >= 3)
        assert line.pump.status().last_success is not None

    async def test_an_outage_shows_before_there_is_anything_to_send(self, line: Line) -> None:
        line.sink.script.extend([TransientDeliveryError("away")] * 10_000)
        line.run()
        await line.until(lambda: line.pump.status().failure == "away")
        line.sink.script.clear()
        entries = line.put(10)
        await line.drained()
        assert line.confirmed == entries

    async def test_what_comes_does_not_wait_for_a_store_that_is_slow_to_say_how_it_is(
        self, line: Line
    ) -> None:
        line.sink.health.clear()
        line.run()
        await line.until(lambda: line.sink.checks == 1)
        entries = line.put(1)
        await line.drained()
        assert line.confirmed == entries

    async def test_a_stop_does_not_wait_for_it_either(self, line: Line) -> None:
        line.sink.health.clear()
        line.run()
        await line.until(lambda: line.sink.checks == 1)
        async with asyncio.timeout(10):
            await line.pump.stop(1000)


async def test_nothing_of_the_other_lane_is_touched(line: Line) -> None:
    [entry] = line.put(1)
    emergency = entry._replace(id=b"!" * 16, lane=Lane.EMERGENCY)
    line.writer.submit([emergency], [], 1)
    line.run()
    await line.drained()
    assert line.confirmed == [entry]
    assert line.writer.status().lanes[Lane.EMERGENCY].rows == 1


async def test_after_an_outage_the_emergency_lane_goes_first(line: Line) -> None:
    """Also if its own next try would be a long time away."""
    patient = replace(
        line.profile, retry=Policy(base_s=500.0, cap_s=1000.0, retry_after_cap_s=1000.0)
    )
    sink = MemorySink()
    sink.script.append(TransientDeliveryError("away"))
    emergency_pump = line.emergency_pump(sink, patient)
    (emergency,) = line.put(lane=Lane.EMERGENCY)
    emergencies = asyncio.create_task(emergency_pump.run())
    await line.until(lambda: emergency_pump.status().state == "backing off")
    line.sink.script.append(TransientDeliveryError("away"))
    line.pump = line.make_pump(before=emergency_pump)
    line.put(5)
    line.run()
    await line.until(lambda: len(line.confirmed) == 6)
    assert line.confirmed[0] == emergency
    await emergency_pump.stop(1.0)
    await emergencies


async def test_an_emergency_lane_that_stays_away_does_not_hold_up_routine_for_long(
    line: Line,
) -> None:
    sink = MemorySink()
    sink.script.extend(TransientDeliveryError("away") for _ in range(1000))
    emergency_pump = line.emergency_pump(sink, line.profile)
    line.put(lane=Lane.EMERGENCY)
    emergencies = asyncio.create_task(emergency_pump.run())
    await line.until(lambda: emergency_pump.status().state == "backing off")
    line.sink.script.append(TransientDeliveryError("away"))
    line.pump = line.make_pump(before=emergency_pump)
    line.put(5)
    line.run()
    await line.until(lambda: len(line.confirmed) == 5)
    await emergency_pump.stop(1.0)
    await emergencies


SLOW = Policy(base_s=500.0, cap_s=1000.0, retry_after_cap_s=1000.0)


async def test_a_new_emergency_ends_the_waiting_after_a_failure(line: Line) -> None:
    sink = MemorySink()
    sink.script.append(TransientDeliveryError("away"))
    pump = line.emergency_pump(sink, replace(line.profile, retry=SLOW, hurry_s=0.01))
    line.put(lane=Lane.EMERGENCY)
    emergencies = asyncio.create_task(pump.run())
    await line.until(lambda: pump.status().state == "backing off")
    line.put(lane=Lane.EMERGENCY)
    await line.until(lambda: len(line.confirmed) == 2)
    await pump.stop(1.0)
    await emergencies


async def test_a_flood_of_emergencies_does_not_hammer_a_dead_store(line: Line) -> None:
    sink = MemorySink()
    sink.script.extend(TransientDeliveryError("away") for _ in range(1000))
    pump = line.emergency_pump(sink, replace(line.profile, retry=SLOW, hurry_s=0.05))
    began = time.monotonic()
    emergencies = asyncio.create_task(pump.run())

    def another() -> bool:
        line.put(lane=Lane.EMERGENCY)
        return len(sink.batches) >= 6

    await line.until(another)
    assert time.monotonic() - began >= 5 * 0.05
    await pump.stop(1.0)
    await emergencies


async def test_an_emergency_keeps_the_wait_that_the_sink_wished_for(line: Line) -> None:
    sink = MemorySink()
    sink.script.append(TransientDeliveryError("not now", 0.2))
    pump = line.emergency_pump(
        sink, replace(line.profile, retry=replace(SLOW, retry_after_cap_s=0.2), hurry_s=0.001)
    )
    line.put(lane=Lane.EMERGENCY)
    emergencies = asyncio.create_task(pump.run())
    await line.until(lambda: pump.status().state == "backing off")
    began = time.monotonic()
    line.put(lane=Lane.EMERGENCY)
    await line.until(lambda: len(line.confirmed) == 2)
    assert time.monotonic() - began > 0.15
    await pump.stop(1.0)
    await emergencies


async def test_the_routine_lane_does_not_cut_a_wished_wait_of_the_emergency_lane_short(
    line: Line,
) -> None:
    sink = MemorySink()
    sink.script.append(TransientDeliveryError("not now", 0.3))
    pump = line.emergency_pump(
        sink, replace(line.profile, retry=replace(SLOW, retry_after_cap_s=0.3))
    )
    (emergency,) = line.put(lane=Lane.EMERGENCY)
    emergencies = asyncio.create_task(pump.run())
    await line.until(lambda: pump.status().state == "backing off")
    began = time.monotonic()
    line.sink.script.append(TransientDeliveryError("away"))
    line.pump = line.make_pump(before=pump)
    line.put(5)
    line.run()
    await line.until(lambda: len(line.confirmed) == 6)
    assert time.monotonic() - began > 0.25
    assert line.confirmed[0] == emergency
    await pump.stop(1.0)
    await emergencies


async def test_small_batches_are_gathered_into_larger_ones(line: Line) -> None:
    """The first goes at once; what comes while the next is gathered goes together."""
    line.profile = replace(line.profile, gather_s=0.3)
    line.pump = line.make_pump()
    line.put(1)
    line.run()
    await line.until(lambda: len(line.confirmed) == 1)
    for _ in range(5):
        line.put(1)
        await line.writer.flush()
    await line.until(lambda: len(line.confirmed) == 6)
    assert [len(batch) for batch in line.sink.batches] == [1, 5]


async def test_a_pump_whose_sink_cannot_be_opened_can_be_stopped(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise PermanentDeliveryError("planted: no certificate")

    monkeypatch.setattr(line.sink, "open", fails)
    task = asyncio.create_task(line.pump.run())
    with pytest.raises(PermanentDeliveryError):
        await task
    async with asyncio.timeout(5):
        await line.pump.stop(0.1)
