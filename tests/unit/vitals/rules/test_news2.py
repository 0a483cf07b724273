"""National Early Warning Score 2 against the chart."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals.rules.news2 import News2Rule, score
from gateway.vitals.triage import Config, Triage

DATA = Path(__file__).parents[3] / "data"
VECTORS = list(csv.DictReader((DATA / "news2_vectors.csv").read_text().splitlines()))
WELL = {"resp": 16, "spo2": 97, "o2": False, "sbp": 120, "hr": 70, "acvpu": "A", "temp": 37.0}


def values(row: dict[str, str]) -> dict[str, float | str | bool]:
    return {
        "resp": float(row["rr"]),
        "spo2": float(row["spo2"]),
        "o2": row["o2"] == "1",
        "sbp": float(row["sbp"]),
        "hr": float(row["pulse"]),
        "acvpu": row["acvpu"],
        "temp": float(row["temp"]),
    }


def test_there_are_vectors() -> None:
    """Every band edge and 100 random sets."""
    assert len(VECTORS) > 180


@pytest.mark.parametrize("row", VECTORS, ids=range(len(VECTORS)))
def test_the_chart(row: dict[str, str]) -> None:
    """Total, red flag, and each item alone."""
    known = values(row)
    hypercapnic = row["scale"] == "2"
    news2 = score(known, hypercapnic=hypercapnic)
    assert (news2.score, news2.red, news2.missing) == (int(row["total"]), row["red"] == "1", ())
    sub_scores = ("s_rr", "s_spo2", "s_o2", "s_sbp", "s_pulse", "s_acvpu", "s_temp")
    for name, sub_score in zip(known, sub_scores, strict=True):
        if name != "spo2" or not hypercapnic:
            alone = score({name: known[name]}, hypercapnic=hypercapnic)
            assert alone.score == int(row[sub_score])
            assert len(alone.missing) == 6


@pytest.mark.parametrize(
    ("name", "value", "points"),
    [
        ("resp", 8.4, 3), ("resp", 8.5, 1), ("resp", 20.4, 0), ("resp", 20.5, 2),
        ("spo2", 95.4, 1), ("spo2", 95.5, 0), ("spo2", 92.5, 2), ("hr", 90.49, 0),
        ("hr", 90.5, 1), ("sbp", 110.5, 0), ("temp", 36.04, 1), ("temp", 36.06, 0),
        ("temp", 38.04, 0), ("temp", 38.06, 1),
    ],
)  # fmt: skip
def test_values_between_the_bands_are_rounded(name: str, value: float, points: int) -> None:
    """Half up, to integers and tenths: the chart has no gaps then."""
    assert score({name: value}).score == points


def test_a_partial_score_names_what_is_missing(bracelet: Any) -> None:
    """A bracelet knows neither consciousness nor oxygen."""
    assessment = bracelet.sends(0, hr=72, spo2=97, resp=16, temp=36.6)
    assert assessment.news2 == (0, False, ("o2", "sbp", "acvpu"))
    assert assessment.findings == ()
    assert bracelet.sends(1, o2=False, sbp=120, acvpu="A").news2 == (0, False, ())


def test_nothing_known_is_no_score(bracelet: Any) -> None:
    """Never a silent 0."""
    assert bracelet.sends(0, rr=[0.8], contact=True).news2 is None


def test_a_partial_7_is_an_emergency(bracelet: Any) -> None:
    """The rest can only add."""
    assessment = bracelet.sends(0, hr=131, spo2=91, resp=9)
    assert assessment.priority == "emergency"
    assert assessment.findings[0].detail == (
        "NEWS2 7, one item scores 3, without o2, sbp, acvpu, temp"
    )


@pytest.mark.parametrize(
    ("pack", "priority"),
    [
        ({"hr": 120, "resp": 22}, "routine"),
        ({"hr": 120, "resp": 22, "spo2": 95}, "urgent"),
        ({"hr": 120, "resp": 22, "spo2": 93}, "urgent"),
        ({"hr": 131}, "urgent"),
        ({"acvpu": "C"}, "urgent"),
    ],
)
def test_urgent_is_5_or_6_or_red(bracelet: Any, pack: dict[str, Any], priority: str) -> None:
    """4 without a red item is routine."""
    assert bracelet.sends(0, **pack).priority == priority


def test_since_is_when_the_priority_began(bracelet: Any, ward: Any) -> None:
    """Not when the score last changed."""
    bracelet.sends(0, hr=131, spo2=97)
    assert bracelet.finds("news2", 10, spo2=95).since == ward.start
    assert bracelet.finds("news2", 20, spo2=91, resp=9).since == ward.start + 20
    assert bracelet.finds("news2", 30, hr=131).since == ward.start + 20
    assert bracelet.finds("news2", 40, hr=70, spo2=97, resp=16) is None


def test_values_become_too_old(bracelet: Any) -> None:
    """Two minutes for what is measured all the time, four hours for the rest."""
    bracelet.sends(0, hr=131, spo2=91, resp=30, temp=36.6, sbp=120, acvpu="A", o2=False)
    assert bracelet.sends(120, batt=50).news2.missing == ()
    assert bracelet.sends(121, batt=50).news2.missing == ("resp", "spo2", "hr")
    assert bracelet.sends(4 * 3600 + 1, batt=50).news2 is None


def test_an_old_value_in_a_new_pack_is_old(ward: Any) -> None:
    """By the node's own times: the temperature is 5 h older than the pulse beside it."""
    start = ward.start
    records = [
        Record("b/temp", "Cel", 41, None, None, None, None, start - 5 * 3600, None),
        Record("b/hr", "1/min", 72, None, None, None, None, start, None),
    ]
    news2 = ward.triage.assess("p", Pack.of("b", records), wall=start, now=start).news2
    assert news2 == (0, False, ("resp", "spo2", "o2", "sbp", "acvpu", "temp"))


def test_scale_2_is_for_whom_a_clinician_ordered_it() -> None:
    """88 to 92 % is the target then."""
    config = News2Rule.Config(hypercapnic=frozenset(["copd"]))
    triage = Triage(Config(rules={"news2": config}))
    records = [Record("b/spo2", "/100", 90, None, None, None, None, 1.79e9, None)]
    assert triage.assess("copd", Pack.of("b", records), wall=1.79e9, now=0.0).news2.score == 0  # type: ignore[union-attr]
    assert triage.assess("other", Pack.of("b", records), wall=1.79e9, now=0.0).news2.score == 3  # type: ignore[union-attr]


def test_well_is_0() -> None:
    """All seven items present."""
    assert score(WELL) == (0, False, ())
