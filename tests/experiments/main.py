"""`scripts/soak`: experiments at length, with progress and a table.

Every experiment first runs with each of its planted faults: one that is not found makes the result
worthless, and the exit code 1, as a missed target does.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from tests import experiments
from tests.experiments import EXPERIMENTS, Experiment, Found, Run


def load_all() -> None:
    """Import every experiment, so that each registers itself."""
    for module in pkgutil.iter_modules(experiments.__path__, "tests.experiments."):
        if not module.name.endswith(".main"):
            importlib.import_module(module.name)


def ordered() -> list[Experiment]:
    """All of them, R before L before S, by number."""
    return sorted(EXPERIMENTS.values(), key=lambda one: ("RLS".index(one.id[0]), one.id))


def carry_out(
    experiment: Experiment, runs: int, *, fault: str | None, long: bool, seed: int
) -> Found:
    """One experiment, in a folder that is gone afterwards."""
    began = last = time.monotonic()
    label = f"{experiment.id} {experiment.name}" + (f" with {fault}" if fault else "")

    def progress(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1 or done >= runs:
            last = now
            end = "\r" if sys.stderr.isatty() else "\n"
            words = f"{label}: {done} of {runs} {experiment.unit}, {now - began:.0f} s"
            print(f"{words:<78}", end=end, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="ward-gateway-soak-") as folder:
        return experiment.run(
            Run(
                runs=runs, folder=Path(folder), seed=seed, fault=fault, long=long, progress=progress
            )
        )


def row(experiment: Experiment, runs: int | None, *, long: bool, seed: int) -> dict[str, Any]:
    """The experiment's row of the table."""
    shown = {"id": experiment.id, "experiment": experiment.name, "target": experiment.target}
    missing = experiment.needs()
    if missing is not None:
        return {**shown, "runs": 0, "result": f"not run: {missing}", "faults": {}, "ok": None}
    faults: dict[str, str] = {}
    for fault in experiment.faults:
        found = carry_out(experiment, experiment.fault_runs, fault=fault, long=False, seed=seed)
        faults[fault] = f"found: {found.failures[0]}" if found.failures else "NOT FOUND"
    runs = runs or (experiment.long if long else experiment.short)
    found = carry_out(experiment, runs, fault=None, long=long, seed=seed)
    ok = not found.failures and "NOT FOUND" not in faults.values()
    figures = ", ".join(f"{name} {value}" for name, value in found.figures.items())
    return {
        **shown,
        "runs": f"{runs} {experiment.unit}",
        "result": "target met" if not found.failures else f"MISSED: {found.failures[0]}",
        "figures": figures,
        "failures": found.failures,
        "faults": faults,
        "ok": ok,
    }


def show(shown: dict[str, Any]) -> None:
    """One row, readable at 100 columns."""
    print(f"{shown['id']} {shown['experiment']}: {shown['result']}")
    lines = [("target", shown["target"]), ("runs", str(shown["runs"]))]
    lines += [("figures", shown["figures"])] if shown.get("figures") else []
    lines += [(f"planted {name}", said) for name, said in shown["faults"].items()]
    for name, said in lines:
        print(textwrap.fill(f"{name}: {said}", 98, initial_indent="  ", subsequent_indent="    "))
    print(flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """All rows together, in Markdown."""
    lines = [
        "| | experiment | target | runs | result | planted faults |",
        "|---|---|---|---|---|---|",
    ]
    for one in rows:
        faults = ", ".join(
            f"{name}: {'found' if said.startswith('found') else said}"
            for name, said in one["faults"].items()
        )
        result = "; ".join(part for part in (one["result"], one.get("figures")) if part)
        cells = (one["id"], one["experiment"], one["target"], one["runs"], result, faults)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """The exit code: 0 if every target was met and every planted fault found."""
    load_all()
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="or an id; or `all`")
    parser.add_argument("--runs", type=int, help="instead of the experiment's own number")
    parser.add_argument("--short", action="store_true", help="as `scripts/test` runs it")
    parser.add_argument("--seed", type=int, default=1, help="of the randomness; default 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows")
    args = parser.parse_args()
    known = {key: one for one in ordered() for key in (one.id.lower(), one.name)}
    if not args.names:
        for one in ordered():
            print(f"{one.id}  {one.name:<22} {one.short} / {one.long} {one.unit}")
        return 0
    wanted = ordered() if "all" in args.names else []
    for name in args.names:
        if name != "all" and name.lower() not in known:
            parser.error(f"no experiment {name}; `scripts/soak` alone lists them")
        wanted += [known[name.lower()]] if name != "all" else []
    rows = []
    for experiment in wanted:
        rows.append(row(experiment, args.runs, long=not args.short, seed=args.seed))
        show(rows[-1])
        if args.json is not None:
            args.json.write_text(json.dumps(rows, indent=1))
    if len(rows) > 1:
        print(table(rows))
    return 0 if all(one["ok"] is not False for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
