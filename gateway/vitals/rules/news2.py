"""National Early Warning Score 2 (Royal College of Physicians, 2017).

Adults over 16, not in pregnancy. Seven items; the tables below read like the chart: (up to and
including, score). Rates, saturation and pressure are rounded to integers and the temperature to a
tenth before they are looked up, so that the bands have no gaps.

A bracelet knows neither consciousness nor oxygen use: these come from a person. An item that is
missing or too old is named and scores nothing, and as every item can only add, a partial score is
a lower bound: 7 is an emergency also when it is partial. Reproduced with acknowledgement to the
Royal College of Physicians, National Early Warning Score (NEWS) 2, London 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor, inf
from typing import TYPE_CHECKING, ClassVar

from gateway.vitals.assessment import Finding, News2, Priority
from gateway.vitals.rules import rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.vitals.observations import Value
    from gateway.vitals.patient import Patient, Stream

NAME = "news2"

Bands = tuple[tuple[float, int], ...]

RESPIRATION: Bands = ((8, 3), (11, 1), (20, 0), (24, 2), (inf, 3))
SPO2_SCALE_1: Bands = ((91, 3), (93, 2), (95, 1), (inf, 0))
SPO2_SCALE_2_AIR: Bands = ((83, 3), (85, 2), (87, 1), (inf, 0))
SPO2_SCALE_2_OXYGEN: Bands = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (inf, 3))
SYSTOLIC: Bands = ((90, 3), (100, 2), (110, 1), (219, 0), (inf, 3))
PULSE: Bands = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (inf, 3))
TEMPERATURE: Bands = ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (inf, 2))
OXYGEN = 2
NOT_ALERT = 3

MAX_AGE_S = {
    "resp": 120.0,
    "spo2": 120.0,
    "o2": 4 * 3600.0,
    "sbp": 4 * 3600.0,
    "hr": 120.0,
    "acvpu": 4 * 3600.0,
    "temp": 4 * 3600.0,
}
"""The items in the order of the chart, and how old each may be (verify): what a bracelet measures
all the time, two minutes; what a person or a cuff measures on a round, the longest round."""

RED = 3
"""Points of one item that count by themselves."""

EMERGENCY_SCORE = 7
URGENT_SCORE = 5


def score(values: Mapping[str, Value], *, hypercapnic: bool = False) -> News2:
    """The score of what is there. ``hypercapnic``: SpO2 scale 2, which a clinician must order.

    Rates per minute, saturation in percent, pressure in mmHg, temperature in degrees Celsius.
    """
    # Only SpO2 on scale 2 looks at another item.
    oxygen = bool(values.get("o2")) if hypercapnic else None
    return _sum({name: _item(name, value, oxygen) for name, value in values.items()})


def _sum(points: dict[str, int]) -> News2:
    total = 0
    red = False
    for item in points.values():
        total += item
        red = red or item == RED
    return News2(total, red, _missing(frozenset(points)))


@lru_cache(maxsize=128)
def _missing(known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in MAX_AGE_S if name not in known)


@lru_cache(maxsize=4096)
def _item(name: str, value: Value, oxygen: bool | None) -> int:
    """The points of one item. ``oxygen``: on supplemental oxygen; None: on scale 1."""
    if name == "acvpu":
        return 0 if value == "A" else NOT_ALERT
    if name == "o2":
        return OXYGEN if value else 0
    number = float(value)
    if name == "temp":
        return _look_up(TEMPERATURE, floor(number * 10 + 0.5) / 10)
    bands = _BANDS[name]
    if oxygen is not None and name == "spo2":
        bands = SPO2_SCALE_2_OXYGEN if oxygen else SPO2_SCALE_2_AIR
    return _look_up(bands, floor(number + 0.5))


_BANDS = {"resp": RESPIRATION, "spo2": SPO2_SCALE_1, "sbp": SYSTOLIC, "hr": PULSE}


def _look_up(bands: Bands, value: float) -> int:
    return next(points for limit, points in bands if value <= limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a clinician orders."""

    hypercapnic: frozenset[str] = frozenset()
    """Patients on SpO2 scale 2 (target 88 to 92 %)."""


class News2Rule:
    """Of the latest values of all devices of a patient."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = True

    __slots__ = ("_config", "_finding", "_known", "_news2", "_oldest_ends", "_points")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._known: dict[str, Value] = {}
        self._points: dict[str, int] = {}
        """Of each item that is known."""
        self._oldest_ends = inf
        """No item that is known becomes too old before (gateway's time)."""
        self._news2: News2 | None = None
        self._finding: Finding | None = None

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency from 7, urgent from 5 or with a red item; leaves the score with the patient."""
        changed = False
        for name, _, _ in stream.values:
            max_age = MAX_AGE_S.get(name)
            if max_age is None or name not in patient.latest:
                continue
            value, time = patient.latest[name]
            self._oldest_ends = min(self._oldest_ends, time + max_age)
            if name not in self._known or self._known[name] != value:
                self._known[name] = value
                self._points[name] = _item(name, value, None)
                changed = True
        if patient.wall > self._oldest_ends:
            self._drop_old(patient)
            changed = True
        if changed:
            self._judge(patient)
        patient.news2 = self._news2
        return self._finding

    def _drop_old(self, patient: Patient) -> None:
        ends = {name: patient.latest[name][1] + MAX_AGE_S[name] for name in self._known}
        for name, end in ends.items():
            if patient.wall > end:
                del self._known[name], self._points[name]
        self._oldest_ends = min((ends[name] for name in self._known), default=inf)

    def _judge(self, patient: Patient) -> None:
        """Score what is known, which has changed since the last pack."""
        if not self._known:
            self._news2 = self._finding = None
            return
        if patient.id in self._config.hypercapnic:
            news2 = score(self._known, hypercapnic=True)
        else:
            news2 = _sum(self._points)
        if news2 == self._news2:
            return
        self._news2 = news2
        if news2.score >= EMERGENCY_SCORE:
            priority = Priority.EMERGENCY
        elif news2.score >= URGENT_SCORE or news2.red:
            priority = Priority.URGENT
        else:
            self._finding = None
            return
        detail = f"NEWS2 {news2.score}"
        if news2.red:
            detail += ", one item scores 3"
        if news2.missing:
            detail += f", without {', '.join(news2.missing)}"
        before = self._finding
        since = before.since if before and before.priority is priority else patient.wall
        self._finding = Finding(NAME, priority, detail, since)


rules.register(NAME)(News2Rule)
