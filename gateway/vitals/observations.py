"""From resolved SenML records to observations in one unit each, or a refusal.

The table below is the whole vocabulary of a node. A name that is not in it is carried and not
judged. The first unit of an entry is the one to send; without a unit a number is taken to be in
it, except for pressures, where hectopascal and millimetre of mercury are both plausible.

The limits are not clinical: a value outside them is a fault of the sender, and refusing it tells
the sender. They are wide, because a refused pack is a pack that nobody judges: a bracelet on a
window sill measures 5 degrees and has not been worn, but it works.

``%`` in SenML is a ratio from 0 to 1 (RFC 8428 section 12.1), "NOT a percentage". A value above 1
with that unit is either out of range or a percentage with the wrong unit, and a gateway that
guesses wrongly shows a suffocating patient as well. So it is refused, unless the device is known
to mean percent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import BadRequestError

if TYPE_CHECKING:
    from gateway.senml.layout import Pack


class Number(NamedTuple):
    """A numeric observation: ``low`` and ``high`` are in the observation's own unit."""

    units: dict[str | None, float]
    """What to multiply by, for each accepted unit; None stands for no unit."""

    low: float
    high: float
    skin: bool = False
    """Measured on the skin: means nothing while the sensor is off it."""


def _number(
    units: dict[str, float],
    low: float,
    high: float,
    *,
    skin: bool = False,
    unit_needed: bool = False,
) -> Number:
    first = next(iter(units.values()))
    accepted: dict[str | None, float] = dict(units.items())
    if not unit_needed:
        accepted[None] = first
    return Number(accepted, low, high, skin)


_MMHG_PER_PA = 1 / 133.322387415
_PRESSURE = {"hPa": 100 * _MMHG_PER_PA, "Pa": _MMHG_PER_PA, "mm[Hg]": 1.0}

NUMBERS: dict[str, Number] = {
    # name, {unit: factor}, low, high; the observation is in the unit that the comment names
    "hr": _number({"1/min": 1.0, "beat/min": 1.0, "1/s": 60.0}, 0, 400, skin=True),  # per minute
    "rr": _number({"ms": 0.001, "s": 1.0}, 0.001, 3600, skin=True),  # seconds
    "spo2": _number({"/100": 1.0, "/": 100.0, "%": 100.0}, 2, 100, skin=True),  # percent
    "resp": _number({"1/min": 1.0, "1/s": 60.0}, 0, 150, skin=True),  # per minute
    "temp": _number({"Cel": 1.0}, -40, 70, skin=True),  # degrees Celsius
    "sbp": _number(_PRESSURE, 0, 400, unit_needed=True),  # mmHg
    "dbp": _number(_PRESSURE, 0, 400, unit_needed=True),  # mmHg
    "map": _number(_PRESSURE, 0, 400, unit_needed=True),  # mmHg
    "quality": _number({"/": 1.0}, 0, 1),  # ratio
    "batt": _number({"%EL": 1.0}, 0, 100),  # percent
}

TEXTS: dict[str, frozenset[str] | None] = {
    "beat": None,  # WFDB codes; a new one is no reason to lose the beat
    "rhythm": None,  # verdicts that no rule knows are carried
    "acvpu": frozenset("ACVPU"),
}
"""Accepted texts, None for any."""

BOOLEANS = frozenset(("contact", "fall", "o2"))

_AMBIGUOUS = "with unit % above 1: % is a ratio in SenML; send /100"


Value = float | str | bool

Observation = tuple[str, Value, float]
"""Name, value in the unit of the table, UTC seconds as the node's clock has them. Plain tuples, as
a pack makes many of them: a named one costs three times as much."""

Beat = tuple[float, float]
"""UTC seconds as the node's clock has them, and seconds since the beat before (``rr``)."""


class Observations:
    """What one pack says, in the words that rules use."""

    __slots__ = ("beats", "newest", "values")

    def __init__(self, beats: list[Beat], values: list[Observation], newest: float) -> None:
        self.beats = beats
        """In the order of their times."""
        self.values = values
        """Everything else that is known, in the order of the pack."""
        self.newest = newest
        """The latest time of any record, known or not."""


_NUMBER, _BEAT, _BOOLEAN, _TEXT, _UNKNOWN = range(5)


class _Column:
    """How one record of a layout is read, worked out once for all packs of the layout."""

    __slots__ = ("factor", "high", "kind", "label", "low", "plain", "unit")

    def __init__(self, label: str, unit: str | None) -> None:
        self.label = label
        self.unit = unit
        self.factor = self.low = self.high = 0.0
        self.plain = False
        """A number that is to be multiplied by ``factor``, whatever it is."""
        number = NUMBERS.get(label)
        if number is None:
            self.kind = _BOOLEAN if label in BOOLEANS else _TEXT if label in TEXTS else _UNKNOWN
            return
        self.kind = _BEAT if label == "rr" else _NUMBER
        self.low, self.high = number.low, number.high
        if unit in number.units and unit != "%":
            self.factor = number.units[unit]
            self.plain = True


def read(pack: Pack, *, lenient_units: bool = False) -> Observations:
    """The observations in a resolved pack. ``lenient_units``: ``%`` means percent.

    Raises:
        BadRequestError: a unit, a kind or a value that a known name cannot have.
    """
    layout = pack.layout
    columns: list[_Column] | None = layout.reading  # type: ignore[assignment]  # see Layout
    if columns is None:
        columns = [_Column(*one) for one in zip(layout.labels, layout.units, strict=True)]
        layout.reading = columns
    beats: list[Beat] = []
    values: list[Observation] = []
    newest = pack.times[0]
    # Columns and pack are equally long; to check it would cost every pack.
    for column, value, time in zip(columns, pack.values, pack.times):  # noqa: B905
        if time > newest:
            newest = time
        kind, label = column.kind, column.label
        if kind <= _BEAT:
            if column.plain and isinstance(value, float):
                reading = value * column.factor
            elif column.plain and isinstance(value, int) and not isinstance(value, bool):
                reading = float(value) * column.factor
            else:
                reading = _looked_at(column, value, lenient_units)
            if not column.low <= reading <= column.high:
                raise BadRequestError(_range_refusal(column, reading))
            if kind == _BEAT:
                beats.append((time, reading))
            else:
                values.append((label, reading, time))
        elif kind == _BOOLEAN:
            if not isinstance(value, bool):
                raise BadRequestError(f"{label}: send a boolean")
            values.append((label, value, time))
        elif kind == _TEXT:
            accepted = TEXTS[label]
            if not isinstance(value, str):
                raise BadRequestError(f"{label}: send text")
            if accepted is not None and value not in accepted:
                raise BadRequestError(f"{label}: one of {' '.join(sorted(accepted))}")
            values.append((label, value, time))
    if len(beats) > 1:
        beats.sort()
    return Observations(beats, values, newest)


def _looked_at(column: _Column, value: object, lenient_units: bool) -> float:
    """A number that is none, has a unit that is not accepted, or is a ratio in ``%``."""
    label, unit = column.label, column.unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequestError(f"{label}: send a number")
    units = NUMBERS[label].units
    if unit not in units:
        raise BadRequestError(_unit_refusal(label, unit))
    if value <= 1:
        return value * units[unit]
    if not lenient_units:
        raise BadRequestError(f"{label}: {value:g} {_AMBIGUOUS}")
    return value


def _range_refusal(column: _Column, reading: float) -> str:
    return f"{column.label}: {reading:g} is not between {column.low:g} and {column.high:g}"


def _unit_refusal(label: str, unit: str | None) -> str:
    accepted = ", ".join(known for known in NUMBERS[label].units if known is not None)
    if unit is None:
        return f"{label}: the unit is missing; send one of {accepted}"
    return f"{label}: unit {unit[:16]!a} is not one of {accepted}"
