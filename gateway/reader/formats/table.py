"""For people: one record a line, what triage found under it, at home on 80 columns.

The columns are fixed so that records stay under each other while they come in; what does not fit
beside them goes on the next line. Everything that a device or a patient's name could have put in
is made printable: text from a sensor must not steer a terminal.
"""

from __future__ import annotations

import textwrap
from itertools import chain, repeat
from typing import TYPE_CHECKING

from gateway.cose.record import MAX_RECEIVED_MS
from gateway.reader.formats import formats
from gateway.reader.formats.jsonl import utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gateway.reader.opening import Opened
    from gateway.senml.record import Record

_PATIENT = 10
_DEVICE = 12
_PRIORITY = 9
_TIME = 12

_INDENT = _TIME + 1
_VALUES = _INDENT + _PATIENT + 1 + _DEVICE + 1 + _PRIORITY + 1
"""Where the values start: column 47 leaves 33 of 80 for them."""

_UNITS = {"/100": "%", "%EL": "%", "1/min": "/min", "beat/min": "/min", "Cel": "°C", "/": ""}
"""As read at the bedside, by SenML unit."""


@formats.register("table")
class Table:
    """Times are UTC; a line with the date stands before the first record of each day."""

    def __init__(self, width: int) -> None:
        self._width = max(width, _VALUES + 20)
        self._day = ""

    def lines(self, opened: Opened) -> Iterator[str]:
        day, _, rest = utc(opened.received_ms).partition("T")
        if day != self._day:
            self._day = day
            yield f"{day} (UTC)"
            yield _columns("time", "patient", "device", "priority") + "values"
        found = opened.assessment or {}
        priority = str(found.get("priority", opened.lane.value))
        # A lane says more than a colour would: what must be seen first is in capitals.
        shown = priority.upper() if priority == "emergency" else priority
        head = _columns(rest.removesuffix("Z"), opened.patient, opened.device, shown)
        values = "  ".join(_values(opened))
        wrapped = textwrap.wrap(values, self._width - _VALUES, break_on_hyphens=False) or [""]
        for start, line in zip(chain([head], repeat(" " * _VALUES)), wrapped, strict=False):
            yield f"{start}{line}".replace("\N{NO-BREAK SPACE}", " ").rstrip()
        for note in _notes(found):
            yield from textwrap.wrap(
                note,
                self._width,
                initial_indent=" " * _INDENT,
                subsequent_indent=" " * (_INDENT + 2),
            )


def _columns(time: str, patient: str, device: str, priority: str) -> str:
    cells = ((time, _TIME), (patient, _PATIENT), (device, _DEVICE), (priority, _PRIORITY))
    return "".join(f"{_cut(_printable(text), width):<{width}} " for text, width in cells)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)


def _values(opened: Opened) -> list[str]:
    if opened.sealed is not None:
        content_format, message = opened.sealed
        return [f"sealed by its node: {len(message)} bytes of Content-Format {content_format}"]
    by_label: dict[str, list[Record]] = {}
    for record in opened.records or ():
        label = record.name.removeprefix(opened.device).lstrip("/")
        by_label.setdefault(label, []).append(record)
    return [_value(label, records) for label, records in by_label.items()]


def _value(label: str, records: Sequence[Record]) -> str:
    last = records[-1]
    if last.value is not None:
        unit = _UNITS.get(last.unit or "", last.unit or "")
        space = "" if unit in {"", "%", "/min"} else " "
        shown = f"{last.value:.6g}{space}{unit}"
    elif last.text is not None:
        shown = last.text
    elif last.boolean is not None:
        shown = "yes" if last.boolean else "no"
    elif last.data is not None:
        shown = f"{len(last.data)} bytes"
    else:
        shown = f"sum {last.total:.6g}"
    more = f" (last of {len(records)})" if len(records) > 1 else ""
    # Kept together where a line ends: a value without its name is worse than a short line.
    return _printable(f"{label} {shown}{more}").replace(" ", "\N{NO-BREAK SPACE}")


def _notes(found: Mapping[str, object]) -> Iterator[str]:
    findings = found.get("findings")
    for finding in findings if isinstance(findings, list) else ():
        if isinstance(finding, dict):
            since = _clock(finding.get("since"))
            yield _printable(f"- {finding.get('rule')}: {finding.get('detail')} (since {since})")
    news2 = found.get("news2")
    if isinstance(news2, dict):
        red = ", one item alone scores 3" if news2.get("red") else ""
        missing = news2.get("missing")
        listed = ", ".join(map(str, missing)) if isinstance(missing, list) else ""
        without = f", without {listed}" if listed else ""
        yield _printable(f"- NEWS2 {news2.get('score')}{red}{without}")


def _clock(since: object) -> str:
    """A time of day. A gateway's record is shown also if this one number in it makes no sense."""
    if isinstance(since, int | float) and 0 <= since <= MAX_RECEIVED_MS / 1000:
        return utc(round(since * 1000))[11:19]
    return "?"
