"""``demo``: everything on this machine, with real heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import demonstration
from gateway.cli.output import show_one
from gateway.clock import SystemClock
from gateway.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from gateway.demonstration import Summary, Ward
    from gateway.node.fleet import Fleet

_VIEW_S: Final = 1.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo``."""
    demo = commands.add_parser("demo", help="a whole ward on this machine, with real heartbeats")
    demo.add_argument("--nodes", type=int, default=8, metavar="N")
    demo.add_argument("--speed", type=float, default=1.0, metavar="X", help="times real time")
    demo.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="stop then, and sum up"
    )
    demo.add_argument("--dir", type=Path, metavar="DIR", help="default: a new temporary folder")
    demo.add_argument("--port-base", type=int, metavar="P", help="default: free ports")
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    if not 1 <= args.nodes <= 500 or args.speed <= 0 or (args.seconds or 1) <= 0:
        raise UsageError("--nodes must be 1 to 500, --speed and --for above 0")
    folder = args.dir or Path(tempfile.mkdtemp(prefix="ward-gateway-demo-"))
    ward = demonstration.prepare(folder, nodes=args.nodes, port_base=args.port_base)
    summary = asyncio.run(_play(args, ward))
    show_one(args, {**summary._asdict(), "complete": summary.complete}) if args.json else _tell(
        summary
    )
    return 0 if summary.complete else 1


async def _play(args: argparse.Namespace, ward: Ward) -> Summary:
    journal = io.StringIO()
    fleet = demonstration.bracelets(ward, args.speed, journal)
    async with demonstration.running(ward):
        if not args.json:
            _welcome(args, ward)
        work = asyncio.create_task(
            fleet.run(wall=SystemClock().wall(), duration_s=args.seconds), name="bracelets"
        )
        began = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            # Ctrl-C ends the bracelets and leads to the summary.
            while not (await asyncio.wait([work], timeout=_VIEW_S))[0]:
                if not args.json:
                    _view(ward, fleet, time.monotonic() - began)
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
            _uncancel()
        elif work.exception() is not None:
            raise work.exception()  # type: ignore[misc]
        return await demonstration.summarise(ward, fleet, journal)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _welcome(args: argparse.Namespace, ward: Ward) -> None:
    print(f"Ward Gateway: {len(ward.nodes)} bracelets with real heartbeats (MIT-BIH), in")
    print(f"  {ward.folder}\n")
    print(f"  nodes         coaps://127.0.0.1:{ward.ports.coaps}")
    print(f"  cloud store   https://127.0.0.1:{ward.ports.cloud} (client certificate required)")
    print(f"  monitoring    http://127.0.0.1:{ward.ports.console}/metrics and /readyz;")
    print("                  the token is in state/console.token")
    print(f"  read along    ward-gateway --config {ward.folder}/gateway.toml \\")
    print("                  read --as alarm-centre --follow\n")
    first = ward.nodes[0].id
    print(f"{first} will run into a real sinus arrest in about {12 / args.speed:.0f} s.", end=" ")
    print("Stop with Ctrl-C.\n" if args.seconds is None else f"Runs {args.seconds:g} s.\n")


def _view(ward: Ward, fleet: Fleet, elapsed: float) -> None:
    status = ward.status()
    if status is None:
        return
    waiting = sum(lane["rows"] for lane in status["outbox"]["lanes"].values())
    stored = sum(lane["delivered"] for lane in status["outbox"]["lanes"].values())
    line = (
        f"{elapsed:5.0f} s   sent {fleet.report.sent:<6} acknowledged "
        f"{fleet.report.acknowledged:<6} waiting {waiting:<4} in the cloud {stored:<6}"
    )
    if status["active_alarms"]:
        line += f" ALARM {status['active_alarms']}"
    print(line, flush=True)


def _tell(summary: Summary) -> None:
    opened = ", ".join(f"{name} {count}" for name, count in summary.opened.items())
    print("\nSummary")
    print(f"  sent                {summary.sent}")
    print(f"  acknowledged        {summary.acknowledged}")
    print(f"  stored in the cloud {summary.stored}")
    print(f"  opened by           {opened}")
    print(f"  missing, doubled    {summary.missing}, {summary.doubled}")
    for alarm in summary.alarms:
        print(f"  ALARM               {alarm['rule']} of {alarm['patient']}: {alarm['detail']}")
    if summary.latency_ms["count"]:
        print(
            "  emergency latency   datagram to cloud-confirmed: median "
            f"{summary.latency_ms['median']} ms, maximum {summary.latency_ms['maximum']} ms "
            f"({summary.latency_ms['count']:.0f} records)"
        )
    if summary.complete:
        print("\nEvery acknowledged record was read back and opened.")
    else:
        print("\nNOT every acknowledged record was read back once.", file=sys.stderr)
