"""No heartbeat for 4 s although the sensor is on the skin."""

from __future__ import annotations

from typing import Any

import pytest


def find(bracelet: Any, at: float, **pack: Any) -> Any:
    return bracelet.finds("asystole", at, **pack)


def test_a_gap_of_4_s_is_asystole(bracelet: Any, ward: Any) -> None:
    """Measured by the node between two beats; since the beat before it."""
    assert not find(bracelet, 10, rr=[0.8, 0.8], contact=True)
    assert not find(bracelet, 13.999, rr=[3.999], contact=True)
    finding = find(bracelet, 17.999, rr=[4.0], contact=True)
    assert finding.priority == "emergency"
    assert finding.detail == "no heartbeat for 4.0 s"
    assert finding.since == pytest.approx(ward.start + 13.999)
    assert not find(bracelet, 18.8, rr=[0.8], contact=True)


def test_a_gap_counts_wherever_it_stands_in_the_pack(bracelet: Any) -> None:
    """Also in a first pack, and if the node says nothing of contact."""
    assert find(bracelet, 20, rr=[0.8, 4.2, 0.8, 0.8])


def test_a_gap_with_the_sensor_off_meanwhile_is_not(bracelet: Any) -> None:
    """Lost leads must not be announced as asystole."""
    bracelet.sends(10, rr=[0.8], contact=True)
    assert not find(bracelet, 12, contact=False)
    assert not find(bracelet, 20, rr=[10.0], contact=True)
    assert find(bracelet, 25, rr=[5.0], contact=True)
    assert not find(bracelet, 30, rr=[5.0], contact=False)
    assert not find(bracelet, 40, rr=[5.0])


def test_a_gap_in_a_poor_signal_is_not(bracelet: Any) -> None:
    """A quality from before the gap says nothing of it."""
    bracelet.sends(10, rr=[0.8], contact=True, quality=0.9)
    assert not find(bracelet, 15, rr=[5.0], quality=0.4)
    assert find(bracelet, 20.1, rr=[5.0])
    assert find(bracelet, 25.2, rr=[5.0], quality=0.6)


def test_a_gap_whose_beat_was_overtaken_is_still_found(bracelet: Any) -> None:
    """A retransmission can arrive after the next pack."""
    bracelet.sends(10, rr=[0.8])
    bracelet.sends(15.6, rr=[0.8])
    assert find(bracelet, 16, rr=[4.2], rr_times=[14.8])


def test_a_pack_sent_again_is_as_urgent_again(bracelet: Any) -> None:
    """The first time it may have found no room on the disk."""
    bracelet.sends(10, rr=[0.8])
    assert find(bracelet, 15, rr=[5.0])
    assert find(bracelet, 17, rr=[5.0], rr_times=[15.0])
    assert not find(bracelet, 17.5, rr=[0.8])


def test_gaps_of_the_past_are_past(bracelet: Any) -> None:
    """Of two gaps only the later one can come again."""
    bracelet.sends(10, rr=[5.0])
    bracelet.sends(20, rr=[5.0])
    assert not find(bracelet, 22, rr=[5.0], rr_times=[10.0])


def test_packs_with_contact_and_without_beats_are_asystole(bracelet: Any, ward: Any) -> None:
    """From the first pack that shows 4 s, as long as it lasts."""
    bracelet.sends(10, rr=[0.8], contact=True)
    assert not find(bracelet, 13.9, contact=True)
    finding = find(bracelet, 14.0, contact=True)
    assert finding.since == pytest.approx(ward.start + 10)
    assert find(bracelet, 19, contact=True, hr=0).detail == "no heartbeat for 9.0 s"
    assert find(bracelet, 48, contact=True)
    assert not find(bracelet, 49, rr=[0.8], contact=True)


@pytest.mark.parametrize(
    "pack",
    [
        {"contact": False},
        {"contact": True, "quality": 0.2},
        {"contact": True, "hr": 60},
    ],
)
def test_silence_with_a_reason_is_not(bracelet: Any, pack: dict[str, Any]) -> None:
    """Off the skin, a poor signal, or a node that reports a pulse between its packs of beats."""
    bracelet.sends(10, rr=[0.8], contact=True)
    assert not find(bracelet, 15, **pack)


def test_an_average_that_goes_on_does_not_hide_asystole(bracelet: Any) -> None:
    """A node that sends its beats each second repeats its last rate when they stop."""
    for at in range(8):
        assert not find(bracelet, at, rr=[1.0], hr=60, contact=True)
    raised = [at for at in range(8, 20) if find(bracelet, at, hr=60, contact=True)]
    assert raised == list(range(11, 20))


@pytest.mark.parametrize("vitals_every", [5.0, 6.0])
def test_a_node_that_collects_its_beats_is_not_silent_between(
    bracelet: Any, vitals_every: float
) -> None:
    """Ten seconds of beats in a pack, vitals with a pulse halfway."""
    for at in range(0, 200, 10):
        assert not find(bracelet, at, rr=[1.0] * 10, contact=True)
        assert not find(bracelet, at + vitals_every, hr=60, contact=True)


def test_beats_from_before_a_late_pack_are_not_held_back(bracelet: Any) -> None:
    """A pack that was overtaken does not make the node a collector."""
    for at in range(8):
        bracelet.sends(at, rr=[1.0], hr=60, contact=True)
    bracelet.sends(10, hr=60, contact=True)
    bracelet.sends(10.5, rr=[1.0, 1.0], rr_times=[8.0, 9.0], age=0.6)
    bracelet.sends(11, rr=[1.0], hr=60, contact=True)
    assert find(bracelet, 15, hr=60, contact=True)


def test_silence_of_a_node_that_never_sent_beats_is_not(bracelet: Any) -> None:
    """It may measure temperature only."""
    for at in range(0, 60, 5):
        assert not find(bracelet, at, contact=True, temp=36.6)


def test_silence_of_a_node_that_does_not_know_contact_is_not(bracelet: Any) -> None:
    """Contact must be said."""
    bracelet.sends(10, rr=[0.8])
    assert not find(bracelet, 20, temp=36.6)


def test_no_packets_are_not_silence(bracelet: Any) -> None:
    """Out of reach for a minute: then 4 s must pass in sight."""
    bracelet.sends(10, rr=[0.8], contact=True)
    assert not find(bracelet, 70, contact=True)
    assert not find(bracelet, 73.9, contact=True)
    assert find(bracelet, 74.1, contact=True)
