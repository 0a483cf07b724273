"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_NARROWEST = 8


def show(args: argparse.Namespace, rows: Sequence[dict[str, Any]], *, empty: str) -> None:
    """Rows with the same keys: a table, or a JSON array with ``--json``."""
    if args.json:
        print(json.dumps(list(rows), indent=1))
    elif rows:
        print(table(rows, shutil.get_terminal_size((80, 24)).columns))
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


def table(rows: Sequence[dict[str, Any]], columns: int) -> str:
    """Aligned text, at most ``columns`` wide; the widest column gives way, with an ellipsis."""
    names = list(rows[0])
    cells = [names, *([text(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    while sum(widths) + 2 * (len(widths) - 1) > columns and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    lines = [
        "  ".join(_fitted(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def text(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(one) for one in value) or "-"
    return str(value)


def _fitted(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"
