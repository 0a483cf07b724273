"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_ISO_DATE = 10
"""Characters of ``2026-11-21``."""

_WORTH_WRAPPING = 16
"""A column that is narrower is shortened instead."""


def show(
    args: argparse.Namespace,
    rows: Sequence[dict[str, Any]],
    *,
    empty: str,
    dates: Sequence[str] = (),
    wrapped: str = "",
) -> None:
    """Rows with the same keys: a table, or a JSON array with ``--json``.

    dates: keys of ISO 8601 times, of which a table shows the date. wrapped: the last key, if a
    table must not shorten it.
    """
    if args.json:
        print(json.dumps(list(rows), indent=1))
    elif rows:
        shorter = [
            {
                key: value[:_ISO_DATE] if key in dates and value else value
                for key, value in row.items()
            }
            for row in rows
        ]
        print(table(shorter, shutil.get_terminal_size((80, 24)).columns, wrapped=wrapped))
    else:
        print(empty)


def show_one(args: argparse.Namespace, values: dict[str, Any]) -> None:
    """One thing: ``key  value`` lines, or a JSON object with ``--json``."""
    if args.json:
        print(json.dumps(values, indent=1))
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        print(f"{key:<{width}}  {text(value)}")


def table(rows: Sequence[dict[str, Any]], columns: int, *, wrapped: str = "") -> str:
    """Aligned text, at most ``columns`` wide; the widest column gives way, with an ellipsis.

    wrapped: the last column's name, if it shall go on in the next line instead.
    """
    names = list(rows[0])
    cells = [names, *([text(row[name]) for name in names] for row in rows)]
    if wrapped:
        cells = _wrap_last(cells, columns)
    widths = [max(_width(line[at]) for line in cells) for at in range(len(names))]
    while sum(widths) + 2 * (len(widths) - 1) > columns and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    lines = [
        [_fitted(cell, width) for cell, width in zip(line, widths, strict=True)] for line in cells
    ]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_cut("  ".join(line).rstrip(), columns) for line in lines)


def _wrap_last(cells: list[list[str]], columns: int) -> list[list[str]]:
    before = sum(
        max(_width(cell) for cell in column) + 2 for column in list(zip(*cells, strict=True))[:-1]
    )
    room = columns - before
    if room < _WORTH_WRAPPING:
        return cells
    found = []
    for *others, last in cells:
        for at, part in enumerate(textwrap.wrap(last, room, break_on_hyphens=False) or [""]):
            found.append([*others, part] if at == 0 else [*([""] * len(others)), part])
    return found


def text(value: object) -> str:
    """A value as people read it, in one line and without anything that moves the cursor."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{text(key)}: {text(one)}" for key, one in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(one) for one in value) or "-"
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(value))


def _fitted(cell: str, width: int) -> str:
    if _width(cell) > width:
        cell = _cut(cell, width - 1) + "…"
    return cell + " " * (width - _width(cell))


def _cut(line: str, width: int) -> str:
    """As much of the beginning as fits."""
    while _width(line) > width:
        line = line[:-1]
    return line


def _width(line: str) -> int:
    """Places on a terminal: an ideograph takes two, a combining accent none."""
    if line.isascii():
        return len(line)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in line
    )
