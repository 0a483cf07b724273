"""The table of patients, refusals, and what an assessment says."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import BadRequestError
from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals.rules.asystole import Asystole
from gateway.vitals.triage import Config, Triage


def test_nothing_is_remembered_of_a_refused_pack(ward: Any) -> None:
    """The good records of a bad pack are refused with it, beats included."""
    bracelet, twin = ward.bracelet("p"), ward.bracelet("q")
    for one in (bracelet, twin):
        one.sends(0, rr=[0.4] * 10)
    with pytest.raises(BadRequestError, match="hr: 10000"):
        bracelet.sends(3, rr=[0.4] * 7, contact=False, rhythm="VT", spo2=50, hr=10000)
    assert bracelet.sends(3, rr=[0.4] * 6) == twin.sends(3, rr=[0.4] * 6)


def test_a_refused_first_pack_leaves_no_patient(ward: Any) -> None:
    """The table is fed by the network."""
    triage = Triage(Config(patients=1))
    known, unknown = ward.bracelet("p"), ward.bracelet("q")
    known.triage = unknown.triage = triage
    known.sends(0, rr=[0.4] * 16)
    with pytest.raises(BadRequestError):
        unknown.sends(1, hr=10000)
    assert known.finds("extreme_tachycardia", 0.4, rr=[0.4])


def test_the_patient_silent_longest_is_forgotten_first(ward: Any) -> None:
    """At the cap, for one more."""
    triage = Triage(Config(patients=2))
    a, b, c = (ward.bracelet(name) for name in "abc")
    for bracelet in (a, b, c):
        bracelet.triage = triage
    a.sends(0, rr=[0.4] * 15)
    b.sends(0, rr=[0.4] * 16)
    a.sends(0.4, rr=[0.4])
    c.sends(1, hr=70)
    assert a.finds("extreme_tachycardia", 0.8, rr=[0.4])
    assert not b.finds("extreme_tachycardia", 0.4, rr=[0.4])


def test_the_most_urgent_finding_comes_first(bracelet: Any) -> None:
    """And gives the priority."""
    assessment = bracelet.sends(0, rr=[4.5], rhythm="AFIB", spo2=90, declared=True)
    priorities = [finding.priority for finding in assessment.findings]
    assert priorities == ["emergency", "emergency", "urgent", "advisory"]
    assert assessment.priority == "emergency"


def test_lenient_units_reach_the_table(bracelet: Any) -> None:
    """A percent sign means percent for a device that is registered so."""
    record = Record("b/spo2", "%", 97, None, None, None, None, 1.79e9, None)
    with pytest.raises(BadRequestError):
        bracelet.triage.assess("p", Pack.of("b", [record]), wall=1.79e9, now=0.0)
    news2 = bracelet.triage.assess(
        "p", Pack.of("b", [record]), wall=1.79e9, now=0.0, lenient_units=True
    ).news2
    assert news2.score == 0


def test_a_rule_that_does_not_exist_cannot_be_configured() -> None:
    """A misspelt name must not leave a limit at its default in silence."""
    with pytest.raises(KeyError, match="no rule 'asystoly'; there are: asystole, contact"):
        Triage(Config(rules={"asystoly": None}))


def test_a_rule_takes_its_own_configuration(ward: Any) -> None:
    """Three seconds instead of four."""
    bracelet = ward.bracelet()
    bracelet.triage = Triage(Config(rules={"asystole": Asystole.Config(seconds=3.0)}))
    assert bracelet.finds("asystole", 10, rr=[3.1])
