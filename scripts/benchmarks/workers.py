"""Workers: the load of ``ingest`` on a gateway of one process and of several (`[coap] workers`).

The generator needs a processor too, at some 3 us a request: on two, two workers have about 1.8.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import measure
from ingest import Turns, ratio, summary, tell_servers
from servers import ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Options


def run(options: Options) -> dict[str, Any]:
    """All rounds; figures by the number of workers."""
    turns = Turns(quick=options.quick)
    with contextlib.ExitStack() as stack:
        running = []
        for count in sorted({1, 2, os.cpu_count() or 1}):
            made = stack.enter_context(ours.ward())
            one = stack.enter_context(made.gateway(COAP__WORKERS=str(count)))
            running.append(one._replace(name=f"workers = {count}"))
        rows = measure.rounds(running, turns.once, options.rounds, {}, warm_up=not options.quick)
    return {"servers": {one.name: summary(one, rows[one.name]) for one in running}}


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    servers = report["servers"]
    alone = servers["workers = 1"]
    print(
        f"workers: {alone['associations']} associations x {alone['in_flight']} in flight, "
        "DTLS PSK CCM8, SenML-CBOR; median (lowest-highest)"
    )
    tell_servers(servers)
    for name, row in servers.items():
        if row is not alone:
            print(
                f"{name} / workers = 1: rate {ratio(row, alone, 'rate'):.2f}, "
                f"CPU a request {ratio(row, alone, 'cpu_us'):.2f}"
            )
