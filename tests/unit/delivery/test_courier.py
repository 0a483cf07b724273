"""gateway.delivery.courier, as the pump uses it"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.delivery.pump import PARKED_MOST, REFUSALS_IN_A_ROW
from gateway.errors import PermanentDeliveryError, TransientDeliveryError

if TYPE_CHECKING:
    from tests.unit.delivery.conftest import Line

PERMANENT = PermanentDeliveryError("400 malformed")
EPOCH = b"e" * 16


async def test_an_envelope_goes_before_its_records_and_once(line: Line) -> None:
    line.put(150)
    line.run()
    await line.drained()
    assert line.sink.envelopes == {EPOCH: b"env" + EPOCH}
    line.sink.envelopes[EPOCH] = b"not sent again"
    line.put(1)
    await line.drained()
    assert line.sink.envelopes == {EPOCH: b"not sent again"}
    [kept] = await line.writer.envelopes(line.confirmed[0].lane, [EPOCH])
    assert kept.delivered


async def test_a_new_pump_does_not_send_what_is_delivered(line: Line) -> None:
    line.put(1)
    line.run()
    await line.drained()
    await line.pump.stop(5)
    line.sink.envelopes[EPOCH] = b"not sent again"
    line.pump = line.make_pump()
    line.run()
    line.put(1)
    await line.drained()
    assert line.sink.envelopes == {EPOCH: b"not sent again"}


async def test_a_sink_that_lost_an_envelope_gets_it_again(line: Line) -> None:
    line.put(1)
    line.run()
    await line.drained()
    for _ in range(2):
        line.sink.envelopes.clear()
        line.put(1)
        await line.drained()
        assert line.sink.envelopes == {EPOCH: b"env" + EPOCH}
    assert await line.dead() == {}
    assert line.pump.status().last_failure is None, "no failure, and no wait"


async def test_records_whose_envelope_is_gone_are_dead_letters(line: Line) -> None:
    lost = line.put(2, epoch=b"l" * 16, envelope=False)
    kept = line.put(3)
    line.run()
    await line.drained()
    assert line.confirmed == kept
    dead = await line.dead()
    assert dead.keys() == {entry.id for entry in lost}
    assert all("not kept here any more" in reason for reason in dead.values())


async def test_records_of_a_refused_envelope_are_dead_letters(line: Line) -> None:
    bad = line.put(2, epoch=b"b" * 16)
    good = line.put(2)
    line.sink.refused_envelopes[b"b" * 16] = PERMANENT
    line.run()
    await line.drained()
    assert line.confirmed == good
    assert await line.dead() == {
        entry.id: "its key envelope is refused: 400 malformed" for entry in bad
    }


async def test_a_sink_that_refuses_every_envelope_is_waited_for(line: Line) -> None:
    """A wrong certificate must not turn the whole queue into dead letters."""
    many = REFUSALS_IN_A_ROW + PARKED_MOST + 10
    for n in range(many):
        epoch = bytes([n]) * 16
        line.sink.refused_envelopes[epoch] = PERMANENT
        line.put(1, epoch=epoch)
    line.run()
    await line.until(lambda: line.pump.status().failures > 3)
    assert len(await line.dead()) == REFUSALS_IN_A_ROW
    line.sink.refused_envelopes.clear()
    await line.drained()
    assert len(line.confirmed) == many - REFUSALS_IN_A_ROW


async def test_an_envelope_that_cannot_go_now_holds_its_records(line: Line) -> None:
    entries = line.put(2)
    line.sink.refused_envelopes[EPOCH] = TransientDeliveryError("503")
    line.run()
    await line.until(lambda: line.pump.status().failures > 5)
    assert line.sink.batches == []
    line.sink.refused_envelopes.clear()
    await line.drained()
    assert line.confirmed == entries


async def test_a_sink_that_misses_what_it_has_just_got_is_not_hammered(line: Line) -> None:
    line.sink.deliver_envelope = _drop  # type: ignore[method-assign]
    line.put(1)
    line.run()
    await line.until(lambda: line.pump.status().failures > 3)
    assert await line.dead() == {}
    assert line.pump.status().kind == "missing_envelopes"


async def _drop(epoch: bytes, message: bytes) -> None:
    """Answers well and keeps nothing."""
