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
    from gateway.vitals.patient import Latest, Patient, Stream

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
    points = [_item(name, value, oxygen) for name, value in values.items()]
    return News2(sum(points), RED in points, _missing(frozenset(values)))


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


class _Watched:
    """One item of a patient: what is known of it, and what of that the score was made from."""

    __slots__ = ("fresh", "latest", "max_age", "name", "points", "value")

    def __init__(self, name: str, latest: Latest) -> None:
        self.name = name
        self.latest = latest
        self.max_age = MAX_AGE_S[name]
        self.fresh = False
        self.value: Value = ""
        self.points = 0


class News2Rule:
    """Of the latest values of all devices of a patient."""

    Config: ClassVar = Limits
    whole_patient: ClassVar = True

    __slots__ = ("_config", "_finding", "_items", "_known", "_missing", "_news2")

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._items: list[_Watched] = []
        self._known = 0
        """Names that the patient had when the items were listed."""
        self._missing: tuple[str, ...] = ()
        self._news2: News2 | None = None
        self._finding: Finding | None = None

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """Emergency from 7, urgent from 5 or with a red item; leaves the score with the patient."""
        if len(patient.latest) != self._known:
            self._list_items(patient)
        now = patient.now
        changed = aged = False
        for item in self._items:
            latest = item.latest
            fresh = now - latest.time <= item.max_age
            if fresh != item.fresh:
                item.fresh = fresh
                aged = True
            if fresh and latest.value != item.value:
                item.value = latest.value
                item.points = _item(item.name, latest.value, None)
                changed = True
        if aged:
            self._missing = _missing(frozenset(one.name for one in self._items if one.fresh))
        if changed or aged:
            self._judge(patient)
        patient.news2 = self._news2
        return self._finding

    def _list_items(self, patient: Patient) -> None:
        self._known = len(patient.latest)
        listed = {one.name for one in self._items}
        for name, latest in patient.latest.items():
            if name in MAX_AGE_S and name not in listed:
                self._items.append(_Watched(name, latest))

    def _judge(self, patient: Patient) -> None:
        """Score what is fresh, which has changed since the last pack."""
        if len(self._missing) == len(MAX_AGE_S):
            self._news2 = self._finding = None
            return
        if patient.id in self._config.hypercapnic:
            news2 = score(
                {one.name: one.value for one in self._items if one.fresh}, hypercapnic=True
            )
        else:
            total = 0
            red = False
            for item in self._items:
                if item.fresh:
                    total += item.points
                    red = red or item.points == RED
            news2 = News2(total, red, self._missing)
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
