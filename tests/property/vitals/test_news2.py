"""NEWS2 points are remembered by item and value: that must not show."""

from __future__ import annotations

from math import floor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals import observations
from gateway.vitals.patient import Patient
from gateway.vitals.rules import news2
from gateway.vitals.rules.news2 import News2Rule, score

CHART = {
    "resp": news2.RESPIRATION,
    "spo2": news2.SPO2_SCALE_1,
    "sbp": news2.SYSTOLIC,
    "hr": news2.PULSE,
    "temp": news2.TEMPERATURE,
}


def points(name: str, value: float | str | bool, *, oxygen: bool, hypercapnic: bool) -> int:
    """One item looked up in the chart, with nothing remembered."""
    if name == "acvpu":
        return 0 if value == "A" else news2.NOT_ALERT
    if name == "o2":
        return news2.OXYGEN if value else 0
    bands = CHART[name]
    if name == "spo2" and hypercapnic:
        bands = news2.SPO2_SCALE_2_OXYGEN if oxygen else news2.SPO2_SCALE_2_AIR
    steps = 10 if name == "temp" else 1
    rounded = floor(float(value) * steps + 0.5) / steps
    return min((limit, scored) for limit, scored in bands if rounded <= limit)[1]


# Equal as keys of a dictionary, whatever their type: 1, 1.0 and True are one key.
alike = st.sampled_from([0, 0.0, -0.0, False, 1, 1.0, True, 35, 35.0, 92, 92.0, 92.5, 93, 93.0])
numbers = alike | st.integers(-40, 400) | st.floats(-40, 400)
readings = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(CHART, numbers),
        "o2": alike,
        "acvpu": st.sampled_from("ACVPU"),
    },
)


@given(st.lists(st.tuples(readings, st.booleans()), min_size=1, max_size=12))
def test_what_was_scored_before_changes_no_score(
    history: list[tuple[dict[str, float | str | bool], bool]],
) -> None:
    """Booleans, integers and floats that are equal, items and scales, in any order."""
    for values, hypercapnic in history:
        expected = [
            points(name, value, oxygen=bool(values.get("o2")), hypercapnic=hypercapnic)
            for name, value in values.items()
        ]
        found = score(values, hypercapnic=hypercapnic)
        assert (found.score, found.red) == (sum(expected), 3 in expected)
        assert found.missing == tuple(name for name in news2.MAX_AGE_S if name not in values)


packs = st.lists(
    st.tuples(st.sampled_from(list(news2.MAX_AGE_S)), st.integers(0, 3), st.integers(-200, 0)),
    min_size=1,
    max_size=4,
)
sessions = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([1, 60, 119, 240, 15_000]), packs), max_size=12
)
UNITS = {"resp": "1/min", "spo2": "/100", "sbp": "mm[Hg]", "hr": "1/min", "temp": "Cel"}


def reading(device: str, name: str, choice: int, time: float) -> Record:
    """One of four values of an item, some of them scoring."""
    if name == "acvpu":
        return Record(f"{device}/acvpu", None, None, "ACVP"[choice], None, None, None, time, None)
    if name == "o2":
        return Record(f"{device}/o2", None, None, None, choice > 1, None, None, time, None)
    number = {"temp": (34, 36.5, 38.5, 40)}.get(name, (30, 60, 93, 97))[choice]
    return Record(f"{device}/{name}", UNITS[name], number, None, None, None, None, time, None)


@given(sessions)
def test_the_score_is_that_of_what_is_fresh_now(session: list[Any]) -> None:
    """Kept from pack to pack, it is what scoring everything afresh gives."""
    patient = Patient("p", [])
    rule = News2Rule(News2Rule.Config())
    wall = 1_790_000_000.0
    for device, step, pack in session:
        wall += step
        sent = [reading(device, name, choice, wall + age) for name, choice, age in pack]
        observed = observations.read(Pack.of(device, sent))
        stream = patient.absorb(device, observed, wall=wall, now=wall, absolute=True, rules=list)
        rule.assess(patient, stream)
        fresh = {
            name: patient.latest[name].value
            for name, max_age in news2.MAX_AGE_S.items()
            if name in patient.latest and patient.latest[name].time + max_age >= wall
        }
        assert patient.news2 == (score(fresh) if fresh else None)
