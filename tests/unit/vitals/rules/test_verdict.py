"""What the node says itself: verdicts, declared emergencies, contact."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.senml.layout import Pack
from gateway.senml.record import Record


@pytest.mark.parametrize(
    ("rhythm", "priority"),
    [
        ("VT", "emergency"),
        ("VF", "emergency"),
        ("ASYS", "emergency"),
        ("AFIB", "advisory"),
        ("N", "routine"),
        ("SVTA", "routine"),
        ("vt", "routine"),
    ],
)
def test_verdicts(bracelet: Any, rhythm: str, priority: str) -> None:
    """Lethal ones are believed at once; unknown ones are carried."""
    assert bracelet.sends(0, rhythm=rhythm).priority == priority


def test_a_verdict_holds_until_the_next(bracelet: Any, ward: Any) -> None:
    """Since it was first given."""
    assert bracelet.finds("verdict", 0, rhythm="VT").since == ward.start
    assert bracelet.finds("verdict", 5, rr=[0.5]).since == ward.start
    assert bracelet.finds("verdict", 10, rhythm="VT").since == ward.start
    assert bracelet.finds("verdict", 15, rhythm="VF").since == ward.start + 15
    assert not bracelet.finds("verdict", 20, rhythm="N")
    assert not bracelet.finds("verdict", 25, rr=[0.8])


def test_a_verdict_is_forgotten_after_a_minute_without_one(bracelet: Any) -> None:
    """The node has stopped looking."""
    bracelet.sends(0, rhythm="VT")
    assert bracelet.finds("verdict", 60, hr=70)
    assert not bracelet.finds("verdict", 60.1, hr=70)
    assert not bracelet.finds("verdict", 61, hr=70)


def test_the_worst_verdict_of_a_pack_counts_for_it(ward: Any) -> None:
    """A short run between two normal verdicts is not lost."""
    records = [
        Record("b/rhythm", None, None, rhythm, None, None, None, ward.start + at, None)
        for at, rhythm in enumerate(["N", "AFIB", "VT", "N"])
    ]
    triage = ward.triage
    (finding,) = triage.assess(
        "p", Pack.of("b", records), wall=ward.start + 4, now=ward.start + 4
    ).findings
    assert finding.detail == "the device sees ventricular tachycardia (VT)"
    assert not triage.assess(
        "p", Pack.of("b", records[3:]), wall=ward.start + 5, now=ward.start + 5
    ).findings


def test_a_late_verdict_counts_for_its_pack_only(bracelet: Any) -> None:
    """The newer verdict stands."""
    bracelet.sends(10, rhythm="N")
    assert bracelet.finds("verdict", 11, rhythm="VF", age=5)
    assert not bracelet.finds("verdict", 12, hr=70)


def test_a_declared_emergency_is_one(bracelet: Any, ward: Any) -> None:
    """For the pack that was posted to ``/alarm``, whatever it holds."""
    finding = bracelet.finds("declared", 3, temp=36.6, declared=True)
    assert (finding.priority, finding.since) == ("emergency", ward.start + 3)
    assert not bracelet.finds("declared", 4, temp=36.6)


def test_the_sensor_off_the_skin_is_technical(bracelet: Any, ward: Any) -> None:
    """What is not judged meanwhile must not be missed silently."""
    assert bracelet.sends(0, contact=True).priority == "routine"
    assert bracelet.sends(5, contact=False).priority == "technical"
    assert bracelet.finds("contact", 9, batt=50).since == ward.start + 5
    assert bracelet.sends(10, contact=True).priority == "routine"
