"""L-06: triage against a slow reference, written from the published tables and not from the code.

Each case is a short history of one patient, as bytes that a node would send: vitals at each limit
and one step beside it, runs of beats that just complete a definition or just do not, old samples
sent again, and packs that mean nothing. The reference keeps everything and looks at all of it.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway import intake as intake_module
from gateway.alarm_book import HOLD_S, AlarmBook
from gateway.coap.fastlane import Kind
from gateway.endpoint import Endpoint
from gateway.intake import Admitted, Offer
from gateway.senml.pack import resolve_untrusted
from gateway.vitals.assessment import Priority
from gateway.vitals.patient import Stream
from gateway.vitals.rules import extreme_bradycardia, news2
from gateway.vitals.triage import Config, Triage
from tests.experiments import Experiment, Found, Run, register
from tests.unit.conftest import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.senml.layout import Pack

WALL = 1_795_000_000.0
CBOR = 112

Sample = dict[int, Any]
"""One SenML record, labels as in RFC 8428 section 6."""


# --- the reference


def _respiration(rate: int) -> int:
    if rate <= 8 or rate >= 25:
        return 3
    if rate >= 21:
        return 2
    return 1 if rate <= 11 else 0


def _saturation(percent: int, *, hypercapnic: bool, oxygen: bool) -> int:
    if not hypercapnic:
        return 3 if percent <= 91 else 2 if percent <= 93 else 1 if percent <= 95 else 0
    if percent <= 87:
        return 3 if percent <= 83 else 2 if percent <= 85 else 1
    if percent <= 92 or not oxygen:
        return 0
    return 1 if percent <= 94 else 2 if percent <= 96 else 3


def _systolic(pressure: int) -> int:
    if pressure <= 90 or pressure >= 220:
        return 3
    return 2 if pressure <= 100 else 1 if pressure <= 110 else 0


def _pulse(rate: int) -> int:
    if rate <= 40 or rate >= 131:
        return 3
    if rate >= 111:
        return 2
    return 1 if rate <= 50 or rate >= 91 else 0


def _temperature(tenths: int) -> int:
    if tenths <= 350:
        return 3
    if tenths >= 391:
        return 2
    return 1 if tenths <= 360 or tenths >= 381 else 0


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def expected_score(values: dict[str, Any], *, hypercapnic: bool) -> tuple[int, bool]:
    """NEWS2 of what is known, and whether one item alone scores 3."""
    points = []
    for name, value in values.items():
        if name == "resp":
            points.append(_respiration(_half_up(value)))
        elif name == "spo2":
            oxygen = values.get("o2") is True
            points.append(_saturation(_half_up(value), hypercapnic=hypercapnic, oxygen=oxygen))
        elif name == "sbp":
            points.append(_systolic(_half_up(value)))
        elif name == "hr":
            points.append(_pulse(_half_up(value)))
        elif name == "temp":
            points.append(_temperature(_half_up(value * 10)))
        elif name == "acvpu":
            points.append(0 if value == "A" else 3)
        elif name == "o2":
            points.append(2 if value else 0)
    return sum(points), 3 in points


MINUTES = {"resp": 2, "spo2": 2, "hr": 2, "sbp": 240, "temp": 240, "acvpu": 240, "o2": 240}
"""How old each may be."""


def runs_met(beats: list[float], length: int, beyond: Callable[[float], bool]) -> list[bool]:
    """For each RR interval whether it completes a run of so many beyond a limit."""
    return [
        n + 1 >= length and all(beyond(rr) for rr in beats[n + 1 - length : n + 1])
        for n in range(len(beats))
    ]


# --- cases

UNITS = {"resp": "1/min", "spo2": "/100", "sbp": "mm[Hg]", "hr": "1/min", "temp": "Cel"}
LIMITS = {
    "resp": (8, 9, 11, 12, 20, 21, 24, 25),
    "spo2": (83, 84, 85, 86, 87, 88, 91, 92, 93, 94, 95, 96, 97),
    "sbp": (90, 91, 100, 101, 110, 111, 219, 220),
    "hr": (40, 41, 50, 51, 90, 91, 110, 111, 130, 131),
    "temp": (35.0, 35.1, 36.0, 36.1, 38.0, 38.1, 39.0, 39.1),
}
POSSIBLE = {"resp": (0, 150), "spo2": (2, 100), "sbp": (0, 400), "hr": (0, 400), "temp": (-40, 70)}


def _near(chance: random.Random, name: str) -> float:
    limit = chance.choice(LIMITS[name])
    step = 0.1 if name == "temp" else 1
    off = chance.choice((0.0, step, -step, step / 4, -step / 4, step * 0.49, -step * 0.49))
    low, high = POSSIBLE[name]
    return float(min(max(round(limit + off, 3), low), high))


def _sample(name: str, value: float | str | bool) -> Sample:
    record: Sample = {0: name}
    if isinstance(value, bool):
        return record | {4: value}
    if isinstance(value, str):
        return record | {3: value}
    return record | {1: UNITS.get(name, "ms"), 2: value}


def _pack(samples: list[Sample], time: float) -> bytes:
    return cbor2.dumps([{-3: time, **samples[0]}, *samples[1:]])


class Bed:
    """One case: a patient of the triage, in whose ward nobody lived before."""

    def __init__(self, triage: Triage, patient: str, wall: float) -> None:
        self._triage = triage
        self._patient = patient
        self.wall = wall

    def hears(self, payload: bytes) -> tuple[Priority, dict[str, Priority], tuple[int, bool]]:
        """The priority of a pack, its findings, the score."""
        pack = resolve_untrusted(payload, CBOR, device="b", wall=self.wall)
        found = self._triage.assess(self._patient, pack, now=self.wall, wall=self.wall)
        score = (0, False) if found.news2 is None else (found.news2.score, found.news2.red)
        return found.priority, {one.rule: one.priority for one in found.findings}, score


def vitals(bed: Bed, chance: random.Random, hypercapnic: bool) -> str | None:
    """Some rounds of measuring at the limits; now and then an old round comes again."""
    known: dict[str, tuple[Any, float]] = {}
    packs: list[bytes] = []
    for number in range(chance.randint(1, 4)):
        if packs and number > 1 and chance.random() < 0.5:
            payload = chance.choice(packs[:-1])  # older than what came since
        else:
            bed.wall += chance.choice((1.0, 30.0, 119.0, 121.0, 14_399.0, 14_401.0))
            names = chance.sample(list(MINUTES), chance.randint(1, 7))
            values = {
                name: chance.choice("ACVPU")
                if name == "acvpu"
                else chance.random() < 0.5
                if name == "o2"
                else _near(chance, name)
                for name in names
            }
            known |= {name: (value, bed.wall) for name, value in values.items()}
            payload = _pack([_sample(*one) for one in values.items()], bed.wall)
            packs.append(payload)
        fresh = {
            name: value
            for name, (value, at) in known.items()
            if bed.wall - at <= 60 * MINUTES[name]
        }
        score, red = expected_score(fresh, hypercapnic=hypercapnic)
        priority, found, scored = bed.hears(payload)
        if scored != (score, red):
            return f"NEWS2 of {fresh} is {(score, red)}, not {scored}"
        expected = Priority.ROUTINE
        if score >= 7:
            expected = Priority.EMERGENCY
        elif score >= 5 or red:
            expected = Priority.URGENT
        if (priority, found.get("news2", Priority.ROUTINE)) != (expected, expected):
            return f"{fresh} is {expected}, not {priority}: {found}"
    return None


SLOW, FAST, GAP = 60 / 40, 60 / 140, 4.0


def beats(bed: Bed, chance: random.Random, hypercapnic: bool) -> str | None:
    """Runs that are just long enough and just beyond the limit, or just not, in packs."""
    del hypercapnic
    rrs = [chance.choice((0.6, 0.8, 1.0)) for _ in range(chance.randint(1, 4))]
    if chance.random() < 0.5:
        length, limit = chance.choice((4, 5, 6)), SLOW
    else:
        length, limit = chance.choice((16, 17, 18)), FAST
    rrs += [limit + chance.choice((-0.001, 0.001))] * (length - 1)
    rrs.append(limit + chance.choice((-0.001, 0.0, 0.001)))
    if chance.random() < 0.3:
        rrs.append(chance.choice((3.999, 4.0, 4.001)))
    contact = chance.random() < 0.8
    slow = runs_met(rrs, 5, lambda rr: round(rr, 3) > SLOW)
    fast = runs_met(rrs, 17, lambda rr: round(rr, 3) < FAST)
    at = 0
    while at < len(rrs):
        count = min(chance.randint(1, 6), len(rrs) - at)
        span = sum(rrs[at : at + count])
        bed.wall += span
        time, samples = -span, []
        for rr in rrs[at : at + count]:
            time += rr
            samples.append({0: "rr", 1: "ms", 2: round(rr * 1000), 6: round(time, 3)})
        samples.append(_sample("contact", contact))
        _, found, _ = bed.hears(_pack(samples, bed.wall))
        here = slice(at, at + count)
        gap = any(round(rr, 3) >= GAP for rr in rrs[here])
        if not contact:
            if found != {"contact": Priority.TECHNICAL}:
                return f"no contact and yet {found}"
        else:
            for rule, met, before in (
                ("extreme_bradycardia", any(slow[here]), any(slow[:at])),
                ("extreme_tachycardia", any(fast[here]), any(fast[:at])),
                ("asystole", gap, False),
            ):
                # Between a run and its end hysteresis decides, which no table gives.
                if met and found.get(rule) is not Priority.EMERGENCY:
                    return f"missed {rule} in {rrs[: at + count]}"
                if not met and not before and rule in found:
                    return f"{rule} without reason in {rrs[: at + count]}"
        at += count
    return None


VERDICTS = {
    **dict.fromkeys(("VT", "VF", "ASYS"), Priority.EMERGENCY),
    "AFIB": Priority.ADVISORY,
    **dict.fromkeys(("N", "SVT", "", "vf"), Priority.ROUTINE),
}


def verdicts(bed: Bed, chance: random.Random, hypercapnic: bool) -> str | None:
    """What the node says of the rhythm, with something healthy beside it."""
    del hypercapnic
    rhythm = chance.choice(list(VERDICTS))
    samples = [_sample("rhythm", rhythm), _sample("hr", 72.0)]
    chance.shuffle(samples)
    bed.wall += 1
    priority, found, _ = bed.hears(_pack(samples, bed.wall))
    return None if priority is VERDICTS[rhythm] else f"{rhythm}: {priority}, {found}"


# --- what means nothing


def _nonsense(chance: random.Random) -> bytes:
    """A pack that no reader could understand, of vitals that may be anything."""
    name = chance.choice(list(POSSIBLE))
    low, high = POSSIBLE[name]
    good = _sample(name, _near(chance, name))
    bad: list[Any] = [
        *(good | {2: value} for value in (math.nan, math.inf, -math.inf, low - 1, high + 1)),
        *(good | {2: value} for value in ("72", None, [72], True)),
        {0: name, 1: "x", 2: 72},
        {0: name, 1: UNITS[name]},
        {0: name, 4: True},
        {0: "spo2", 1: "%", 2: 97},
        {0: "sbp", 2: 120},
        {0: "rr", 1: "ms", 2: 0},
        {0: "acvpu", 3: "X"},
    ]
    whole = cbor2.dumps([_sample("hr", 72.0), chance.choice(bad)])
    return chance.choice((whole, whole, whole, whole[:-1], b"", b"\xff" * 9, whole + b"\x00"))


class Door:
    """A whole intake, through which one bracelet sends sense and nonsense."""

    def __init__(self, run: Run) -> None:
        desk = Desk(run.folder)
        self._book = AlarmBook(
            bytes(32), random.Random(run.seed).randbytes, lambda kept, gone: None
        )
        self._intake = desk.intake(book=self._book)
        self._wall = desk.wall

    def _offers(self, payload: bytes) -> bool:
        """Whether it was taken."""
        self._wall += HOLD_S
        offer = Offer(Endpoint(1, "bracelet-1"), Kind.VITALS, CBOR, payload)
        (found,) = self._intake.admit([offer], now=self._wall, wall=self._wall)
        return isinstance(found, Admitted)

    def nonsense(self, bed: Bed, chance: random.Random, hypercapnic: bool) -> str | None:
        """Refused, and a technical alarm until the next pack that can be judged."""
        del bed, hypercapnic
        payload = _nonsense(chance)
        if self._offers(payload):
            return f"taken for vitals: {payload.hex()}"
        if "unreadable" not in self._rules():
            return f"refused in silence: {payload.hex()}"
        ill = chance.random() < 0.5
        samples = [_sample("rhythm", "VF" if ill else "N"), _sample("hr", 72.0)]
        if not self._offers(_pack(samples, self._wall)):
            return "a sound pack was refused after nonsense"
        expected = {"verdict"} if ill else set()
        return None if self._rules() == expected else f"after nonsense {self._rules()}"

    def _rules(self) -> set[str]:
        return {alarm.rule for alarm in self._book.active()}


# --- the experiment


@contextmanager
def _planted(fault: str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        news2._item.cache_clear()
        patch.setattr(logging.getLogger("alarms"), "disabled", True)
        if fault == "limit-off-by-one":
            high = tuple((131 if top == 130 else top, points) for top, points in news2.PULSE)
            patch.setitem(news2._BANDS, "hr", high)
        elif fault == "one-beat-more":
            rule = extreme_bradycardia.ExtremeBradycardia
            make = rule.__init__
            patch.setattr(
                rule, "__init__", lambda self, config: make(self, replace(config, beats=6))
            )
        elif fault == "nan-is-normal":
            patch.setattr(intake_module, "resolve_untrusted", _without_nan)
        elif fault == "old-is-new":
            patch.setattr(Stream, "absorb", _absorb_as_new)
        elif fault == "refused-in-silence":
            patch.setattr(AlarmBook, "refused", lambda *_: None)
        yield
    news2._item.cache_clear()


def _without_nan(payload: bytes, content_format: int, *, device: str, wall: float) -> Pack:
    """A sensor without a value is left out."""
    try:
        records = cbor2.loads(payload)
        payload = cbor2.dumps([one for one in records if one.get(2) == one.get(2)])
    except (cbor2.CBORDecodeError, AttributeError, TypeError):
        pass
    return resolve_untrusted(payload, content_format, device=device, wall=wall)


_absorb = Stream.absorb


def _absorb_as_new(self: Stream, observations: Any, latest: Any, wall: float, now: float) -> None:
    """Times are not compared."""
    self.newest = float("-inf")
    _absorb(self, observations, latest, wall, now)


def run(run: Run) -> Found:
    """Cases of all kinds in turn; the first miss of a kind in words, the others in number."""
    chance = random.Random(run.seed)
    hypercapnic = frozenset(f"p{number}" for number in range(0, run.runs, 3))
    misses: dict[str, list[str]] = {}
    with _planted(run.fault):
        triage = Triage(Config(rules={"news2": news2.Limits(hypercapnic=hypercapnic)}))
        kinds = (vitals, beats, verdicts, Door(run).nonsense)
        for number in range(run.runs):
            patient = f"p{number}"
            kind = kinds[(number + number // 4) % 4]  # so that no kind has but one scale
            bed = Bed(triage, patient, WALL + 10 * number)
            missed = kind(bed, chance, patient in hypercapnic)
            if missed is not None:
                misses.setdefault(kind.__name__, []).append(missed)
                if run.fault is not None:
                    break
            if number % 1000 == 999:
                run.progress(number + 1)
    failures = [f"{len(those)} of {kind}: {those[0]}" for kind, those in misses.items()]
    return Found(failures, {"missed": sum(map(len, misses.values()))})


register(
    Experiment(
        id="L-06",
        name="triage",
        target="0 missed against a slow reference: each limit and beside it, NaN, missing, out of "
        "range, old samples; what cannot be judged is a technical alarm, never normal",
        unit="cases",
        short=10_000,
        long=1_000_000,
        run=run,
        faults={
            "limit-off-by-one": "a pulse of 131 scores 2 instead of 3",
            "one-beat-more": "bradycardia takes 6 beats instead of 5",
            "nan-is-normal": "a number that is none is left out of its pack",
            "old-is-new": "an old sample that comes again counts as new",
            "refused-in-silence": "a pack that is refused raises no technical alarm",
        },
        fault_runs=2000,
    )
)
