"""NEWS2 points are remembered by item and value: that must not show."""

from __future__ import annotations

from math import floor

from hypothesis import given
from hypothesis import strategies as st

from gateway.vitals.rules import news2
from gateway.vitals.rules.news2 import score

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
