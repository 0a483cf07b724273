"""What a bracelet sends."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

import pytest

from gateway.node.bracelet import Pack, packs
from gateway.node.recording import Beat, Recording, load_all
from gateway.senml.pack import resolve_untrusted
from gateway.vitals.triage import Config, Triage

if TYPE_CHECKING:
    from gateway.senml.layout import Pack as Resolved

ORIGIN = 1_800_000_000.25
REAL = {one.name: one for one in load_all()}
STEADY = Recording("steady", tuple(Beat(0.4 + 0.8 * n, 0.8 if n else None, "N") for n in range(20)))


def sent(recording: Recording, count: int, *, start: float = 0.0, boot: int = 3) -> list[Pack]:
    return list(islice(packs(recording, start=start, origin=ORIGIN, boot=boot), count))


def understood(pack: Pack) -> Resolved:
    """As the gateway reads it."""
    return resolve_untrusted(pack.payload, 112, device="b", wall=ORIGIN + pack.due)


def beats(found: list[Pack]) -> list[tuple[float, float]]:
    """(seconds of replay, interval in ms) of every beat that was sent."""
    return [
        (record.time - ORIGIN, record.value or 0)
        for pack in found
        for record in understood(pack).records
        if record.name == "b/rr"
    ]


@pytest.mark.parametrize("recording", REAL.values(), ids=lambda one: one.name)
def test_every_beat_of_the_recording_is_sent_once_at_its_time(recording: Recording) -> None:
    """To the millisecond, for the whole recording."""
    expected = [(beat.time, (beat.rr or 0) * 1000) for beat in recording.beats][1:]
    found = beats(sent(recording, int(recording.duration) + 2))[1 : len(expected) + 1]
    assert len(found) == len(expected)
    for (time, rr), (time_was, rr_was) in zip(found, expected, strict=True):
        assert time == pytest.approx(time_was, abs=0.0011)
        assert rr == pytest.approx(rr_was, abs=0.51)


def test_a_pack_a_second_with_the_devices_counters() -> None:
    """So that the gateway knows a pack that comes again."""
    found = sent(STEADY, 50)
    assert [pack.due for pack in found] == [float(second) for second in range(1, 51)]
    for number, pack in enumerate(found):
        resolved = understood(pack)
        assert (pack.seq, resolved.seq, resolved.boot) == (number, number, 3)
    assert len({pack.payload for pack in found}) == 50


def test_each_says_that_the_skin_is_touched_and_how_fast_the_heart_is() -> None:
    for pack in sent(STEADY, 10):
        records = {record.name: record for record in understood(pack).records}
        assert records["b/contact"].boolean is True
        assert (records["b/hr"].value, records["b/hr"].unit) == (75, "1/min")


def test_no_beat_lies_in_the_future_of_its_pack_or_before_its_second() -> None:
    for pack in sent(REAL["mitdb_100_60"], 200):
        for time, _ in beats([pack]):
            assert pack.due - 1.001 <= time <= pack.due + 0.001


def test_a_second_without_a_beat_is_a_pack_all_the_same() -> None:
    """The time of the last one stands: the gateway must see that the device lives."""
    pause = Recording("pause", (Beat(0.5, None, "N"), Beat(6.5, 6.0, "N"), Beat(7.0, 0.5, "N")))
    found = sent(pause, 7)
    assert [len(beats([pack])) for pack in found] == [1, 0, 0, 0, 0, 0, 2]
    for pack in found:
        hr = next(one for one in understood(pack).records if one.name == "b/hr")
        assert hr.time == pytest.approx(ORIGIN + pack.due, abs=0.001)


def test_the_end_joins_the_start() -> None:
    """As if the heart had gone on: no gap, no beat twice, for hours."""
    found = beats(sent(STEADY, 100))
    times = [time for time, _ in found]
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) == pytest.approx(0.8, abs=0.002)
    assert max(gaps) == pytest.approx(0.8, abs=0.002)
    assert {rr for _, rr in found} == {800}


@pytest.mark.parametrize("start", [0.0, 3.0, 15.6, 15.7, 500.0])
def test_a_replay_may_begin_anywhere(start: float) -> None:
    found = beats(sent(STEADY, 60, start=start))
    times = [time for time, _ in found]
    assert times[0] >= 0
    assert all(after > before for before, after in pairwise(times))
    assert len(found) >= 70


def test_a_payload_fits_into_a_datagram() -> None:
    assert max(len(pack.payload) for pack in sent(REAL["mitdb_209_497"], 180)) < 200


def test_the_gateway_finds_the_pause_in_the_real_recording() -> None:
    """And nothing in one that is normal."""
    for name, rules in (("mitdb_232_912", {"asystole"}), ("mitdb_100_60", set())):
        triage = Triage(Config())
        found = set()
        for pack in sent(REAL[name], 60):
            assessment = triage.assess("P1", understood(pack), wall=ORIGIN + pack.due, now=pack.due)
            found |= {one.rule for one in assessment.findings if one.priority == "emergency"}
        assert found == rules
