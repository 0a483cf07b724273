"""Whatever a device may send: an assessment or a PeerError, and no patient lost from sight."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals.assessment import Priority, to_map
from gateway.vitals.observations import BOOLEANS, NUMBERS, TEXTS
from gateway.vitals.rules.news2 import score
from gateway.vitals.triage import Config, Triage

START = 1_790_000_000.0
NAMES = [*NUMBERS, *BOOLEANS, *TEXTS, "seq", "unknown"]
UNITS = [None, "1/min", "1/s", "ms", "s", "/100", "/", "%", "Cel", "hPa", "mm[Hg]", "%EL", "x"]

values = st.one_of(
    st.tuples(st.one_of(st.floats(-1e15, 1e15), st.integers(-10, 3000)), st.none(), st.none()),
    st.tuples(st.none(), st.sampled_from(["A", "C", "VT", "VF", "N", "", "x"]), st.none()),
    st.tuples(st.none(), st.none(), st.booleans()),
    st.just((None, None, None)),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that the SenML room lets through."""
    number, text, boolean = draw(values)
    total = 1.0 if (number, text, boolean) == (None, None, None) else None
    time = START + draw(st.floats(-1000, 1000) | st.floats(-1.4e9, 2e9))
    name, unit = draw(st.sampled_from(NAMES)), draw(st.sampled_from(UNITS))
    return Record(f"b/{name}", unit, number, text, boolean, None, total, time, None)


SOUND: dict[str, st.SearchStrategy[tuple[str | None, Any]]] = {
    "hr": st.tuples(st.just("1/min"), st.integers(0, 400)),
    "rr": st.tuples(st.just("ms"), st.integers(200, 6000)),
    "spo2": st.tuples(st.just("/100"), st.integers(2, 100)),
    "quality": st.tuples(st.just("/"), st.floats(0, 1)),
    "contact": st.tuples(st.none(), st.booleans()),
    "rhythm": st.tuples(st.none(), st.sampled_from(["VT", "AFIB", "N"])),
}


@st.composite
def sound_packs(draw: st.DrawFn) -> list[Record]:
    """Packs that are taken, with times in any order."""
    pack = []
    for name in draw(st.lists(st.sampled_from([*SOUND, "rr", "rr", "rr"]), min_size=1, max_size=8)):
        unit, value = draw(SOUND[name])
        kind = 4 if isinstance(value, bool) else 3 if isinstance(value, str) else 2
        fields = [value if kind == n else None for n in (2, 3, 4)]
        time = START + draw(st.floats(-100, 100))
        pack.append(Record(f"b/{name}", unit, *fields, None, None, time, None))
    return pack


packs = st.lists(st.lists(records(), min_size=1, max_size=6), max_size=12)


@given(packs, st.booleans())
def test_any_records(sent: list[list[Record]], lenient: bool) -> None:
    """Refused or judged; the plain form is made of plain values."""
    triage = Triage(Config(patients=2))
    for n, pack in enumerate(sent):
        with contextlib.suppress(PeerError):
            assessment = triage.assess(
                f"p{n % 3}",
                Pack.of("b", pack),
                wall=START + n,
                now=START + n,
                lenient_units=lenient,
            )
            assert set(to_map(assessment)) == {"priority", "findings", "news2"}


@given(st.lists(sound_packs(), max_size=12), st.lists(st.floats(0, 100), min_size=12, max_size=12))
def test_sound_packs_are_judged_and_the_worst_finding_leads(
    sent: list[list[Record]], steps: list[float]
) -> None:
    """In any order and however late; two runs of the same packs agree."""
    first, second = Triage(Config()), Triage(Config())
    wall = START
    for pack, step in zip(sent, steps, strict=False):
        wall += step
        assessment = first.assess("p", Pack.of("b", pack), wall=wall, now=wall)
        assert assessment == second.assess("p", Pack.of("b", pack), wall=wall, now=wall)
        ranks = [finding.priority.rank for finding in assessment.findings]
        assert ranks == sorted(ranks)
        assert assessment.priority.rank == (ranks[0] if ranks else Priority.ROUTINE.rank)


@given(st.lists(sound_packs(), max_size=8))
def test_no_history_hides_an_emergency(sent: list[list[Record]]) -> None:
    """Whatever came before, 17 fast beats that come in order are found within seconds."""
    triage = Triage(Config())
    for n, pack in enumerate(sent):
        triage.assess("p", Pack.of("b", pack), wall=START + n, now=START + n)
    wall = START + 200
    for n in range(50):
        beat = Record("b/rr", "ms", 400, None, None, None, None, wall + 0.4 * n, None)
        contact = Record("b/contact", None, None, None, True, None, None, wall + 0.4 * n, None)
        last = triage.assess(
            "p", Pack.of("b", [beat, contact]), wall=wall + 0.4 * n, now=wall + 0.4 * n
        )
    assert "extreme_tachycardia" in [finding.rule for finding in last.findings]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "resp": st.floats(0, 150), "spo2": st.floats(2, 100), "o2": st.booleans(),
            "sbp": st.floats(0, 400), "hr": st.floats(0, 400), "acvpu": st.sampled_from("ACVPU"),
            "temp": st.floats(-40, 70),
        },
    ),
    st.booleans(),
)  # fmt: skip
def test_a_partial_score_is_a_lower_bound(known: dict[str, Any], hypercapnic: bool) -> None:
    """Leaving an item out never raises the score: a partial 7 is an emergency."""
    whole = score(known, hypercapnic=hypercapnic)
    assert 0 <= whole.score <= 20
    for name in known:
        part = score({n: v for n, v in known.items() if n != name}, hypercapnic=hypercapnic)
        assert part.score <= whole.score
        assert name in part.missing
