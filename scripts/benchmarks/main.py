"""``scripts/bench``: benchmarks by name."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from measure import Failed, Options, progress
from servers import ours

BENCHMARKS = {
    "ingest": "DTLS request to durable acknowledgement",
    "end-to-end": "the same, until the cloud store has it",
    "alarm": "emergencies beside a flood of routine records",
    "handshake": "full DTLS handshakes",
    "workers": "ingest by one process and by several",
    "memory": "what an association costs, and hours of traffic",
    "growth": "how cost grows with associations and with the outbox; draws a plot",
    "steps": "microseconds a message of each step of the path, in one process",
}
_ROUNDS = 5
_QUIET = 0.5
"""Load average above which figures by the clock are in doubt."""


def main() -> None:
    """Run benchmarks and print their figures; exit code 1 if one has failed."""
    # As Ctrl-C: the servers end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the gateway beside its peers, in turns on the same machine:\n"
        "medians, lowest and highest round. CPU time a request is the figure to trust where\n"
        "others share the machine. A peer that is not here is skipped by name.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:<12}{words}" for name, words in BENCHMARKS.items())
        + "\n  all         one after the other; one that fails does not keep the others",
    )
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"], metavar="BENCHMARK")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"of each server, in turns; {_ROUNDS} unless given"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run of seconds, to see that it works"
    )
    parser.add_argument(
        "--python",
        type=Path,
        metavar="FILE",
        help="interpreter of the environment whose Ward Gateway is measured; unless given, one "
        "with a wheel of this working tree, compiled where there is a C compiler",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures there too; a plot goes beside"
    )
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    options = Options(
        rounds=arguments.rounds or (1 if arguments.quick else _ROUNDS),
        quick=arguments.quick,
        folder=arguments.json.resolve().parent if arguments.json else Path.cwd(),
    )
    if arguments.python is not None:
        ours.interpreter = str(arguments.python.absolute())
    machine = _machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if float(machine["load average before"]) > _QUIET:
        print("others are using this machine: look at CPU times, and less at rates and latencies")
    print(flush=True)
    names = list(BENCHMARKS) if arguments.benchmark == "all" else [arguments.benchmark]
    reports: dict[str, Any] = {"machine": machine}
    failed = []
    for name in names:
        benchmark = importlib.import_module(name.replace("-", "_"))
        try:
            reports[name] = benchmark.run(options)
        except (Failed, SystemExit) as error:
            failed.append(name)
            progress(f"{name}: {error}")
            continue
        benchmark.tell(reports[name])
        print(flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(reports, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def _machine() -> dict[str, Any]:
    """Where this runs: figures of two machines do not compare."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith(("model name", "Model"))
    }
    return {
        "processors": f"{os.cpu_count()} ({', '.join(sorted(models)) or platform.machine()})",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "gateway": ours.build(),
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
