"""Steps: microseconds a message of each step of the path, so that a regression has a name.

In one process, in one thread, with real inputs (walk.py); the sum is what the path costs, less the
event loop, the writer's thread and what joins the steps. `ingest` measures those too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
from servers import KEY, ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Options

_BURSTS = 200
_WHOLE = "intake: "
"""How the line begins that is no step of its own."""


def run(options: Options) -> dict[str, Any]:
    """Figures by step, in the order of the path; of the interpreted gateway too, where the one that
    is measured is compiled."""
    report = {"steps": _walk(options, ours.interpreter)}
    interpreted = ours.also_interpreted()
    if interpreted is not None:
        report["interpreted"] = _walk(options, interpreted)
    return report


def _walk(options: Options, python: str) -> dict[str, Any]:
    with ours.ward() as ward:
        arguments = {
            "folder": str(ward.folder),
            "key": KEY,
            "rounds": options.rounds,
            "bursts": 5 if options.quick else _BURSTS,
        }
        program = Path(__file__).with_name("walk.py")
        done = subprocess.run(
            [python, str(program), json.dumps(arguments)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit("the walk through the steps failed")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: measure.figures(_of(rows, name), ("us",)) for name in rows[0]}


def _of(rows: list[dict[str, float]], name: str) -> list[dict[str, float]]:
    return [{"us": row[name]} for row in rows]


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    print(
        "steps: CPU time of one thread, in bursts of 100 messages; us a message, median "
        "(lowest-highest)"
    )
    columns = {ours.build(): report["steps"]}
    if "interpreted" in report:
        columns["interpreted"] = report["interpreted"]
    lines = [
        (name, *(measure.spread(steps[name]["us"], 2) for steps in columns.values()))
        for name in report["steps"]
    ]
    measure.table(("", *columns), lines)
    for build, steps in columns.items():
        each = sum(
            row["us"]["median"] for name, row in steps.items() if not name.startswith(_WHOLE)
        )
        print(
            f"{build}: {each:.1f} us a message without the line `intake`, which repeats its steps"
        )
