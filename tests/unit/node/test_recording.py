"""The recordings that come with the program."""

from __future__ import annotations

import pytest

from gateway.node.recording import Recording, load_all

RECORDINGS = {one.name: one for one in load_all()}


def test_all_are_there_in_order() -> None:
    assert list(RECORDINGS) == sorted(RECORDINGS)
    assert len(RECORDINGS) == 8
    assert "mitdb_232_912" in RECORDINGS


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=lambda one: one.name)
def test_beats_stand_in_order_and_agree_with_their_intervals(recording: Recording) -> None:
    first, *rest = recording.beats
    assert first.rr is None
    assert 100 <= recording.duration <= 245
    assert recording.duration == recording.beats[-1].time
    before = first
    for beat in rest:
        assert beat.rr is not None
        assert beat.rr > 0
        # Times are rounded to a millisecond or better, intervals too.
        assert beat.time - before.time == pytest.approx(beat.rr, abs=0.0031)
        assert beat.label
        before = beat


def test_one_has_the_pauses_that_its_readme_promises() -> None:
    """Asystole: no beat for 4 s, at 40.7 and 67.2 s."""
    beats = RECORDINGS["mitdb_232_912"].beats
    long = [(beat.time - (beat.rr or 0), beat.rr) for beat in beats if (beat.rr or 0) >= 4]
    assert [round(begin, 1) for begin, _ in long] == [40.7, 67.2]


def test_one_has_the_tachycardia_that_its_readme_promises() -> None:
    """17 beats in a row above 140/min, complete at 67.5 s."""
    run, complete = 0, None
    for beat in RECORDINGS["mitdb_209_497"].beats:
        run = run + 1 if beat.rr is not None and beat.rr < 60 / 140 else 0
        if run == 17 and complete is None:
            complete = beat.time
    assert complete == pytest.approx(67.5, abs=0.1)
