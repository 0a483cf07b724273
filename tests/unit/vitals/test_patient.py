"""Streams in the node's own time: late, repeated, overtaken packs, and clocks that are set."""

from __future__ import annotations

from typing import Any

import pytest

FAST = [0.4] * 16


def test_a_node_whose_clock_is_wrong_is_judged_all_the_same(bracelet: Any) -> None:
    """In the past of a flat battery, or in the future."""
    for clock in (-300_000_000.0, 0.0, 300_000_000.0):
        bracelet.clock = clock
        bracelet.patient = f"clock {clock:.0f}"
        assert not bracelet.finds("extreme_tachycardia", 10, rr=FAST)
        finding = bracelet.finds("extreme_tachycardia", 10.4, rr=[0.4])
        assert finding is not None
        assert finding.since == pytest.approx(1_790_000_000 + 10 - 6.4, abs=0.01)


def test_a_clock_set_back_blinds_for_seconds_only(bracelet: Any) -> None:
    """Every pack is late then; after 15 s the stream starts again in the new time."""
    bracelet.sends(0, rr=[0.8])
    bracelet.clock = -3600.0
    raised = [at for at in range(1, 40) if bracelet.finds("extreme_tachycardia", at, rr=[0.4] * 2)]
    assert 16 <= raised[0] <= 26


@pytest.mark.parametrize("step", [-3600.0, -10.0, 86_400.0])
def test_the_gateways_own_clock_is_set_and_nothing_is_missed(bracelet: Any, step: float) -> None:
    """A node without a clock sends times relative to the arrival: they step with the gateway."""
    bracelet.relative = True
    for at in range(20):
        bracelet.sends(at, rr=[0.8])
    bracelet.gateway_clock = step
    raised = [
        at / 2.5
        for at in range(50, 110)
        if bracelet.finds("extreme_tachycardia", at / 2.5, rr=[0.4])
    ]
    assert raised[0] <= 20 + 17 * 0.4


@pytest.mark.parametrize("step", [-3600.0, 86_400.0])
def test_values_grow_old_by_the_monotonic_clock(bracelet: Any, step: float) -> None:
    """Neither at once when the day changes, nor ever later because it is set back."""
    bracelet.sends(0, temp=41, hr=72)
    bracelet.gateway_clock = step
    missing = bracelet.sends(10, hr=72).news2.missing
    assert "temp" not in missing
    missing = bracelet.sends(5 * 3600, hr=72).news2.missing
    assert "temp" in missing


@pytest.mark.parametrize("step", [-3600.0, 86_400.0])
def test_what_another_device_found_holds_for_its_time(
    bracelet: Any, ward: Any, step: float
) -> None:
    """Not shorter or longer because the day was changed."""
    other = ward.bracelet(device="c")
    bracelet.sends(0, rhythm="VF")
    other.gateway_clock = step
    assert other.finds("verdict", 29, hr=72)
    assert not other.finds("verdict", 31, hr=72)


@pytest.mark.parametrize("step", [-3600.0, 86_400.0])
def test_a_verdict_lasts_a_minute_whatever_the_time_of_day(bracelet: Any, step: float) -> None:
    bracelet.sends(0, rhythm="VF")
    bracelet.gateway_clock = step
    assert bracelet.finds("verdict", 59, hr=72)
    assert not bracelet.finds("verdict", 61, hr=72)


def test_old_packs_beside_fresh_ones_do_not_start_again(bracelet: Any, ward: Any) -> None:
    """A node that comes back sends what it kept and what is new in turn."""
    again = ward.bracelet()
    at = 0.0
    for _ in range(16):
        at += 0.4
        assert not bracelet.finds("extreme_tachycardia", at, rr=[0.4])
        again.sends(at, rr=[0.9], age=7200 - at)
    assert bracelet.finds("extreme_tachycardia", at + 0.4, rr=[0.4])


def test_a_late_pack_does_not_overwrite_newer_values(bracelet: Any) -> None:
    """The score is of the newest values."""
    assert bracelet.sends(10, hr=72, spo2=97).news2.score == 0
    assert bracelet.sends(11, hr=140, age=5).news2.score == 0
    assert bracelet.sends(12, hr=140).news2.score == 3


def test_a_late_contact_does_not_overwrite_a_newer_one(bracelet: Any) -> None:
    """Off, then on again; the pack that says off comes last."""
    bracelet.sends(10, contact=True)
    assert not bracelet.finds("contact", 11, contact=False, age=5)


def test_values_measured_off_the_skin_do_not_count(bracelet: Any) -> None:
    """A heart rate of 0 from a bracelet on the table is no score."""
    assert bracelet.sends(0, hr=72, spo2=97).news2.score == 0
    news2 = bracelet.sends(5, hr=0, spo2=50, resp=0, temp=20, sbp=120, contact=False).news2
    assert news2.score == 0
    assert news2.missing == ("resp", "o2", "acvpu", "temp")


def test_two_devices_of_a_patient_do_not_mix_their_beats(ward: Any) -> None:
    """Each measures its own intervals; the same heart is not twice as fast."""
    one, two = ward.bracelet("p", "one"), ward.bracelet("p", "two")
    at = 0.0
    for _ in range(40):
        at += 0.8
        assert not one.sends(at, rr=[0.8]).findings
        assert not two.sends(at + 0.4, rr=[0.8]).findings


def test_what_one_device_found_stands_while_another_sends(ward: Any) -> None:
    """And no longer than that device is heard."""
    one, two = ward.bracelet("p", "one"), ward.bracelet("p", "two")
    other = ward.bracelet("q", "three")
    assert one.sends(10, rr=[0.4] * 17).priority == "emergency"
    assert two.sends(12, temp=36.6).priority == "emergency"
    assert other.sends(12, temp=36.6).priority == "routine"
    assert one.sends(13, temp=36.6).priority == "emergency"
    assert two.sends(44, temp=36.6).priority == "routine"


def test_one_score_of_all_devices(ward: Any) -> None:
    """The cuff is another device than the bracelet."""
    one, two = ward.bracelet("p", "one"), ward.bracelet("p", "two")
    two.clock = -86400.0 * 365
    one.sends(0, hr=120, spo2=92, resp=22)
    assessment = two.sends(1, sbp=95)
    assert assessment.news2.score == 8
    assert [finding.rule for finding in assessment.findings] == ["news2"]
    assert two.sends(2, sbp=120).news2.score == 6
    assert one.sends(3, hr=72).priority == "routine"


def test_a_ninth_device_makes_room(ward: Any) -> None:
    """Of the one silent longest; the patient's memory has a cap."""
    first = ward.bracelet("p", "d0")
    first.sends(0, rr=[0.4] * 16)
    for n in range(1, 9):
        ward.bracelet("p", f"d{n}").sends(n, temp=36.6)
    assert not first.finds("extreme_tachycardia", 8.4, rr=[0.4])
