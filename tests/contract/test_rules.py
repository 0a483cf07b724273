"""What every triage rule must do, run over the registry: a new rule is covered by registering."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.registry import load_all
from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals import observations
from gateway.vitals import rules as package
from gateway.vitals.assessment import Finding, Priority
from gateway.vitals.patient import Patient

load_all(package)
RULES = dict(package.rules.items())
START = 1_790_000_000.0

every_rule = pytest.mark.parametrize("name", RULES)
readings = st.one_of(
    st.tuples(st.just("rr"), st.integers(200, 8000)),
    st.tuples(st.just("hr"), st.integers(0, 300)),
    st.tuples(st.just("spo2"), st.integers(50, 100)),
    st.tuples(st.just("contact"), st.booleans()),
    st.tuples(st.just("quality"), st.floats(0, 1)),
    st.tuples(st.just("rhythm"), st.sampled_from(["VT", "VF", "AFIB", "N", "?"])),
)
sessions = st.lists(
    st.tuples(
        st.floats(0, 60),
        st.booleans(),
        st.lists(st.tuples(readings, st.floats(-10, 0)), min_size=1, max_size=6),
    ),
    max_size=10,
)
UNITS = {"rr": "ms", "hr": "1/min", "spo2": "/100", "quality": "/"}


def record(name: str, value: Any, time: float) -> Record:
    boolean = value if isinstance(value, bool) else None
    text = value if isinstance(value, str) else None
    number = None if isinstance(value, bool | str) else value
    return Record(f"b/{name}", UNITS.get(name), number, text, boolean, None, None, time, None)


def play(rule: Any, session: Any) -> list[Finding | None]:
    """What a rule says of each pack of a session."""
    patient = Patient("p", [])
    wall = START
    said = []
    for step, declared, pack in session:
        wall += step
        sent = [record(name, value, wall + age) for (name, value), age in pack]
        observed = observations.read(Pack.of("b", sent))
        stream = patient.absorb("b", observed, wall=wall, now=wall, absolute=True, rules=list)
        stream.declared = declared
        said.append(rule.assess(patient, stream))
    return said


@every_rule
def test_a_rule_has_a_frozen_config_with_defaults_and_a_scope(name: str) -> None:
    """So that it can be configured by name, and needs no configuration."""
    rule = RULES[name]
    assert rule.Config.__dataclass_params__.frozen
    assert dataclasses.is_dataclass(rule.Config())
    assert isinstance(rule.whole_patient, bool)


@pytest.mark.interpreted("docstrings stay in the source")
@every_rule
def test_a_rule_says_where_it_comes_from(name: str) -> None:
    """The definition stands in the file, for a clinician to check."""
    assert len(sys.modules[RULES[name].__module__].__doc__ or "") > 60


@every_rule
@given(session=sessions)
def test_a_rule_never_raises_and_its_findings_are_complete(name: str, session: Any) -> None:
    """Under its own name, with a detail for people and a time that is not to come."""
    rule = RULES[name]
    wall = START + sum(step for step, _, _ in session)
    for finding in play(rule(rule.Config()), session):
        if finding is not None:
            assert finding.rule == name
            assert finding.priority in Priority
            assert finding.priority is not Priority.ROUTINE
            assert finding.detail
            assert finding.since <= wall + 0.001  # rounding


@every_rule
@given(session=sessions)
def test_instances_share_nothing(name: str, session: Any) -> None:
    """One patient's history never shows in another's findings."""
    rule = RULES[name]
    first, second = rule(rule.Config()), rule(rule.Config())
    assert play(first, session) == play(second, session)


@every_rule
def test_a_quiet_pack_finds_nothing(name: str) -> None:
    """A healthy first pack is routine by every rule."""
    rule = RULES[name]
    readings = [
        (("hr", 72), 0.0),
        (("spo2", 97), 0.0),
        (("contact", True), 0.0),
        (("rr", 830), 0.0),
    ]
    assert play(rule(rule.Config()), [(0.0, False, readings)]) == [None]
