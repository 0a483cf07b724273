"""``scripts/bench``: benchmarks by name."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ingest

BENCHMARKS = {"ingest": ingest}


def main() -> None:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=5, help="of each server, alternating")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    benchmark = BENCHMARKS[arguments.benchmark]
    report = benchmark.run(arguments.rounds)
    benchmark.tell(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
