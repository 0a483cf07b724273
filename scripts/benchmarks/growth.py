"""Growth: rate, CPU and p99 as associations and waiting records multiply; drawn by plot.py.

The load is the one of `ingest`: at most 400 requests in flight, whatever the number of
associations, so that the latency shows the server and not the length of our own queue.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import measure
import plot
from ingest import ASSOCIATIONS, IN_FLIGHT
from measure import Load
from servers.ours import ward

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from measure import Options, Row
    from servers import Running

PEERS = ("libcoap",)

_COUNTS = (1, 10, 100, 1000)
_WAITING = (0, 10_000, 1_000_000)
_WINDOW_S = 2.0
_WARM_UP_S = 1.0
_TOTAL = ASSOCIATIONS * IN_FLIGHT
_KEYS = ("rate", "cpu_us", "p99_ms", "generator_busy", "unanswered")


def run(options: Options) -> dict[str, Any]:
    """Figures by number of associations and server, and by number of waiting records."""
    counts = (1, 10) if options.quick else _COUNTS
    waiting = (1000,) if options.quick else _WAITING
    report: dict[str, Any] = {"associations": {}, "outbox": {}, "skipped": {}}
    with contextlib.ExitStack() as stack:
        running, report["skipped"] = measure.open_all(stack, ("ours", *PEERS))
        for count in counts:
            measure.progress(f"{count} associations")
            once = _rounds_of(count, quick=options.quick)
            rows = measure.rounds(
                running, once, options.rounds, report["skipped"], warm_up=not options.quick
            )
            report["associations"][count] = _summary(rows)
    # No turns here: there is only the gateway, each time with a fuller outbox.
    for records in waiting:
        measure.progress(f"{records} records waiting")
        with ward() as made:
            made.fill(records)
            with made.gateway(OUTBOX__MAX_BYTES=str(1 << 33)) as server:
                once = _rounds_of(ASSOCIATIONS, quick=options.quick)
                rows = measure.rounds(
                    [server], once, options.rounds, report["skipped"], warm_up=not options.quick
                )
        report["outbox"][records] = _summary(rows)
    report["plot"] = plot.growth(report, options.folder / "growth.png")
    return report


_boots = itertools.count(1)


def _rounds_of(associations: int, *, quick: bool) -> Callable[[Running, int], Row]:
    """Rounds with so many associations; each knows what to expect from the one before."""
    expected: dict[str, float] = {}

    def once(server: Running, number: int) -> Row:
        seconds = _WARM_UP_S if number == measure.WARM_UP else _WINDOW_S
        with Load(
            server,
            associations=associations,
            in_flight=IN_FLIGHT,
            total=_TOTAL,
            seconds=measure.QUICK_S if quick else seconds,
            expected=expected.get(server.name, 120_000.0),
            each=measure.QUICK_EACH if quick else None,
            boot=next(_boots),
        ) as load:
            row = load.run()
        expected[server.name] = max(expected.get(server.name, 0.0), 1.5 * row["rate"])
        return row | {"p99_ms": row["latency_ms"]["p99"]}

    return once


def _summary(rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    return {
        name: measure.figures(those, _KEYS) | {"in_flight": _in_flight(those[0])}
        for name, those in rows.items()
    }


def _in_flight(row: Row) -> int:
    whole: int = row["in_turns"] or row["associations"] * row["in_flight"]
    return whole


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    for key, what in (
        ("associations", "by number of associations"),
        ("outbox", f"by number of records waiting in the outbox; {ASSOCIATIONS} associations"),
    ):
        print(f"growth: {what}; median (lowest-highest)")
        lines = [
            (
                f"{int(count):,}",
                name,
                measure.spread(row["rate"]),
                measure.spread(row["cpu_us"], 1),
                measure.spread(row["p99_ms"], 1),
                f"{row['in_flight']}",
                f"{row['generator_busy']['median']:.0%}",
            )
            for count, servers in report[key].items()
            for name, row in servers.items()
        ]
        head = (key, "", "acknowledged/s", "CPU us/request", "p99 ms", "in flight", "generator")
        measure.table(head, lines)
        costs = [servers["ward-gateway"]["cpu_us"]["median"] for servers in report[key].values()]
        steps = [f"{after / before:.2f}" for before, after in itertools.pairwise(costs)]
        if steps:
            print(f"ward-gateway's CPU a request, from step to step: times {', '.join(steps)}")
        print()
    print(f"plot: {report['plot']}")
    measure.tell_skipped(report["skipped"])
