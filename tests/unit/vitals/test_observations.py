"""Names, units and limits of the contract's table."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import BadRequestError
from gateway.senml.layout import Pack
from gateway.senml.record import Record
from gateway.vitals.observations import read

TIME = 1_790_000_000.0


def record(name: str, value: Any = None, unit: str | None = None, time: float = TIME) -> Record:
    boolean = value if isinstance(value, bool) else None
    text = value if isinstance(value, str) else None
    number = None if isinstance(value, bool | str) else value
    return Record(f"b/{name}", unit, number, text, boolean, None, None, time, None)


@pytest.mark.parametrize(
    ("name", "unit", "sent", "read_as"),
    [
        ("hr", "1/min", 72, 72),
        ("hr", "beat/min", 72, 72),
        ("hr", "1/s", 1.2, 72),
        ("hr", None, 72, 72),
        ("spo2", "/100", 97, 97),
        ("spo2", "/", 0.97, 97),
        ("spo2", "%", 0.97, 97),
        ("spo2", "%", 1, 100),
        ("spo2", None, 97, 97),
        ("resp", "1/min", 16, 16),
        ("resp", "1/s", 0.25, 15),
        ("temp", "Cel", 36.6, 36.6),
        ("sbp", "hPa", 160, 120.01),
        ("dbp", "Pa", 10666, 80.0),
        ("map", "mm[Hg]", 93, 93),
        ("quality", "/", 0.9, 0.9),
        ("batt", "%EL", 55, 55),
    ],
)
def test_every_accepted_unit(name: str, unit: str | None, sent: float, read_as: float) -> None:
    """The observation is in one unit whatever was sent."""
    ((got, value, time),) = read(Pack.of("b", [record(name, sent, unit)])).values
    assert (got, time) == (name, TIME)
    assert value == pytest.approx(read_as, abs=0.01)


def test_beats_are_in_seconds_and_in_order() -> None:
    """A pack need not be sorted."""
    observed = read(
        Pack.of(
            "b",
            [
                record("rr", 812, "ms", TIME + 2),
                record("rr", 0.9, "s", TIME + 1),
                record("hr", 70, "1/min", TIME),
            ],
        ),
    )
    assert observed.beats == [(TIME + 1, 0.9), (TIME + 2, pytest.approx(0.812))]
    assert observed.newest == TIME + 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("acvpu", "C"), ("rhythm", "SVTA"), ("beat", "V"), ("o2", True), ("contact", False)],
)
def test_texts_and_booleans(name: str, value: str | bool) -> None:
    """A unit inherited from the pack does not matter to them."""
    assert read(Pack.of("b", [record(name, value, "ms")])).values == [(name, value, TIME)]


def test_unknown_names_are_carried_not_judged() -> None:
    """Whatever their unit, value and kind."""
    for value in (1e15, "x", True, None):
        assert read(Pack.of("b", [record("glucose", value, "furlong")])).values == []
    assert read(Pack.of("b", [record("seq", 5, "ms")])).values == []


@pytest.mark.parametrize(
    ("name", "value", "unit", "reason"),
    [
        ("hr", 10000, "1/min", "hr: 10000 is not between 0 and 400"),
        ("hr", 100, "1/s", "hr: 6000 is not between"),
        ("hr", -1, "1/min", "hr: -1 is not between"),
        ("temp", -300, "Cel", "temp: -300 is not between"),
        ("temp", 310, "K", "temp: unit 'K' is not one of Cel"),
        ("temp", 98.6, "degF", "temp: unit 'degF' is not one of Cel"),
        ("spo2", 97, "%", "spo2: 97 with unit % above 1: % is a ratio"),
        ("spo2", 97, "/", "spo2: 9700 is not between"),
        ("spo2", 0.97, "/100", "spo2: 0.97 is not between 2 and 100"),
        ("spo2", 0.97, None, "spo2: 0.97 is not between 2 and 100"),
        ("rr", 0, "ms", "rr: 0 is not between"),
        ("rr", 812, "1/min", "rr: unit '1/min' is not one of ms, s"),
        ("sbp", 120, None, "sbp: the unit is missing; send one of hPa, Pa, mm.Hg."),
        ("sbp", 120, "mmHg", "sbp: unit 'mmHg' is not one of"),
        ("sbp", 1000, "hPa", "sbp: 750.062 is not between"),
        ("quality", 50, "/", "quality: 50 is not between 0 and 1"),
        ("hr", "72", "1/min", "hr: send a number"),
        ("hr", True, None, "hr: send a number"),
        ("contact", 1, None, "contact: send a boolean"),
        ("o2", "yes", None, "o2: send a boolean"),
        ("acvpu", "alert", None, "acvpu: one of A C P U V"),
        ("acvpu", True, None, "acvpu: send text"),
        ("rhythm", 1, None, "rhythm: send text"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    name: str, value: Any, unit: str | None, reason: str
) -> None:
    """The sender is told what to send instead."""
    with pytest.raises(BadRequestError, match=reason):
        read(Pack.of("b", [record("hr", 72, "1/min"), record(name, value, unit)]))


def test_a_lenient_device_means_percent() -> None:
    """Only above 1: at or below it, ``%`` is a ratio also there."""
    for sent, meant in ((97, 97), (1, 100), (0.97, 97)):
        observed = read(Pack.of("b", [record("spo2", sent, "%")]), lenient_units=True)
        assert observed.values == [("spo2", pytest.approx(meant), TIME)]
    with pytest.raises(BadRequestError, match="between"):
        read(Pack.of("b", [record("spo2", 101, "%")]), lenient_units=True)
