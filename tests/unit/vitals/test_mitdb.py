"""Half-hour records of the MIT-BIH Arrhythmia Database through SenML and triage."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import pytest

from gateway.senml.pack import resolve_untrusted
from gateway.vitals.alarms import Alarms
from gateway.vitals.triage import Config, Triage

DATA = Path(__file__).parents[2] / "data"
TRUTH = json.loads((DATA / "mitdb_truth.json").read_text())
RULES = {
    "ASYSTOLE": "asystole",
    "EXTREME_BRADY": "extreme_bradycardia",
    "EXTREME_TACHY": "extreme_tachycardia",
}
START = 1_790_000_000.0
ROUNDING_S = 0.002
"""Of times and intervals, in the data."""


class Raised(NamedTuple):
    """A new alarm, and the span of the pack that raised it."""

    rule: str
    first: float
    last: float


class Ward:
    """One bracelet and what its packs raise."""

    def __init__(self) -> None:
        self.triage = Triage(Config())
        self.alarms = Alarms()
        self.raised: list[Raised] = []

    def sends(self, beats: list[tuple[float, int]], at: float) -> None:
        """A pack as a bracelet makes it: contact, beats in ms with their times."""
        first = beats[0][0] if beats else at
        pack: list[dict[int, Any]] = [{-3: START + first, -4: "ms", 0: "contact", 4: True}]
        pack[0] |= {6: at - first}
        pack += [{0: "rr", 2: rr, 6: time - first} for time, rr in beats]
        wall = START + at + 0.1
        resolved = resolve_untrusted(cbor2.dumps(pack), 112, device="b", wall=wall)
        assessment = self.triage.assess("p", resolved, wall=wall, now=wall)
        changed = self.alarms.update("p", "b", assessment, record_id=b"", wall=wall)
        self.raised += [Raised(one.rule, first, at) for one in changed if one.resolved is None]


def beats_of(record: str) -> list[tuple[float, int]]:
    with gzip.open(DATA / "mitdb" / f"{record}.beats.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    return [(float(row["t_s"]), round(float(row["rr_s"]) * 1000)) for row in rows if row["rr_s"]]


def missed(truth: dict[str, Any], raised: list[Raised]) -> list[dict[str, Any]]:
    """Alarms that no pack raised that holds the beat that completes them."""
    return [
        alarm
        for alarm in truth["alarms"]
        if not any(
            one.rule == RULES[alarm["type"]]
            and one.first - ROUNDING_S <= alarm["end_s"]
            and one.last + ROUNDING_S >= alarm["due_s"]
            for one in raised
        )
    ]


def unfounded(truth: dict[str, Any], raised: list[Raised]) -> list[Raised]:
    """Raised where there is neither an alarm nor anything that excuses one."""
    spans = [(alarm["onset_s"], alarm["end_s"]) for alarm in truth["alarms"]]
    spans += truth["tolerated_s"]
    return [
        one
        for one in raised
        if not any(
            one.first - ROUNDING_S <= end and one.last + ROUNDING_S >= begin for begin, end in spans
        )
    ]


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("record", TRUTH)
def test_every_alarm_is_raised_by_the_pack_that_completes_it(record: str, size: int) -> None:
    """And no emergency without a cause."""
    beats = beats_of(record)
    ward = Ward()
    for n in range(0, len(beats), size):
        ward.sends(beats[n : n + size], beats[n : n + size][-1][0])
    truth = TRUTH[record]
    assert missed(truth, ward.raised) == []
    assert unfounded(truth, ward.raised) == []
    if not truth["alarms"] and not truth["tolerated_s"]:
        assert ward.raised == []


def test_asystole_is_raised_while_it_lasts() -> None:
    """A bracelet that goes on sending without beats does not wait for the next one."""
    ward = Ward()
    now = 0.0
    for time, rr in beats_of("mitdb_232"):
        while now + 0.5 < time:
            now += 0.5
            ward.sends([], now)
        now = time
        ward.sends([(time, rr)], time)
    truth = [alarm for alarm in TRUTH["mitdb_232"]["alarms"] if alarm["type"] == "ASYSTOLE"]
    raised = [one.last for one in ward.raised if one.rule == "asystole"]
    assert len(truth) == len(raised) == 14
    for alarm, at in zip(truth, raised, strict=True):
        assert alarm["due_s"] - ROUNDING_S <= at <= alarm["due_s"] + 0.5
    assert missed(TRUTH["mitdb_232"], ward.raised) == []


def test_the_truth_has_alarms() -> None:
    """Of every kind, so that the tests above can fail."""
    kinds = [alarm["type"] for truth in TRUTH.values() for alarm in truth["alarms"]]
    assert {kind: kinds.count(kind) for kind in RULES} == {
        "ASYSTOLE": 14,
        "EXTREME_BRADY": 2,
        "EXTREME_TACHY": 5,
    }
