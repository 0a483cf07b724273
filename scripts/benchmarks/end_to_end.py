"""End to end: DTLS request -> triaged, sealed, synced, answered -> durable in the cloud store.

Ours answers when the record is on its own disk and delivers afterwards, so a round ends when
nothing waits in its outbox any more: the cloud store has confirmed every record. The rate is the
number of acknowledged records over that whole time, and so is the CPU time, of the gateway's
process alone. The peers answer when their store has synced the record: what their nodes see is the
rate.

The stores differ, to the peers' advantage: ours takes sealed and signed batches over mutually
authenticated TLS, checks them and keeps them in a database (cloud/); theirs appends the body of a
plain HTTP request to a file (peers/store.py). "ingest alone" is ours with the store away, in the
same turns: what delivery adds is the difference.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import ingest
import measure
from ingest import Turns
from servers import Missing, starter
from servers.ours import ward

from gateway import control

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from measure import Options, Row
    from servers import Running

ALONE = "ingest alone"
_PEERS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("obvious", {}),
    ("californium", {"proxy": True}),
)
WINDOW_S = 3.0
_MOST_PER_S = 60_000.0
"""Records that are prepared: above what the gateway can take."""
_DELIVERED_WITHIN_S = 600.0
_LOOK_S = 0.1


def run(options: Options) -> dict[str, Any]:
    """All rounds; figures by server."""
    turns = Turns(quick=options.quick)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(ward())
        stack.enter_context(made.cloud_store())
        ours = stack.enter_context(made.gateway())._replace(
            acknowledges="stored, synced; delivered"
        )
        alone = stack.enter_context(starter("ours")())._replace(name=ALONE)
        skipped: dict[str, str] = {}
        running = [ours, alone]
        for module, settings in _PEERS:
            try:
                running.append(stack.enter_context(starter(module)(**settings)))
            except Missing as why:
                skipped[module] = str(why)

        def once(server: Running, number: int) -> Row:
            if server is not ours:
                return turns.once(server, number)
            return _until_delivered(ours, made.folder / "state", number, quick=options.quick)

        rows = measure.rounds(running, once, options.rounds, skipped, warm_up=not options.quick)
        servers = {
            one.name: ingest.summary(one, rows[one.name]) for one in running if one.name in rows
        }
        servers[ours.name]["behind_s"] = measure.figures(rows[ours.name], ("behind_s",))["behind_s"]
    return {"servers": servers, "skipped": skipped}


def _until_delivered(server: Running, state: Path, number: int, *, quick: bool) -> Row:
    """A round of ours; its rate and CPU time are those of acknowledged and delivered records."""
    seconds = server.warm_up_s if number == measure.WARM_UP else WINDOW_S
    with measure.Load(
        server,
        associations=ingest.ASSOCIATIONS,
        in_flight=ingest.IN_FLIGHT,
        seconds=measure.QUICK_S if quick else seconds,
        expected=_MOST_PER_S,
        each=measure.QUICK_EACH if quick else None,
        boot=number + 2,
    ) as load:
        before, began = server.cpu(), time.time()
        row = load.run()
        until = time.monotonic() + _DELIVERED_WITHIN_S
        while _waiting(status := _status(state)):
            if time.monotonic() > until:
                raise SystemExit(f"{server.name}: not everything was delivered in time")
            time.sleep(_LOOK_S)
        after = server.cpu()
    # When the store last confirmed a batch, by the gateway's own word: no need to look often.
    took = status["delivery"]["routine"]["last_success"] - began
    each = row["acknowledged"] / 1e6
    user, system = ((b - a) / each for a, b in zip(before, after, strict=True))
    row |= {"rate": row["acknowledged"] / took, "cpu_us": user + system}
    return row | {"user_us": user, "system_us": system, "behind_s": took - row["seconds"]}


def _status(state: Path) -> dict[str, Any]:
    status: dict[str, Any] | None = control.ask(state, "status")
    if status is None:
        raise SystemExit("the gateway has stopped")
    return status


def _waiting(status: Mapping[str, Any]) -> int:
    """Records in the outbox."""
    return sum(lane["rows"] for lane in status["outbox"]["lanes"].values())


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    servers = report["servers"]
    ours = servers["ward-gateway"]
    print(
        f"end-to-end: {ours['associations']} associations x {ours['in_flight']} in flight, DTLS "
        f"PSK CCM8, until the cloud store has confirmed; median (lowest-highest)"
    )
    ingest.tell_servers(servers)
    print(
        f"ward-gateway: everything was delivered {measure.spread(ours['behind_s'], 2)} s after the "
        "last answer"
    )
    for name, other in servers.items():
        if other is not ours:
            print(
                f"ward-gateway / {name}: rate {ingest.ratio(ours, other, 'rate'):.2f}, "
                f"CPU a record {ingest.ratio(ours, other, 'cpu_us'):.2f}"
            )
    measure.tell_skipped(report["skipped"])
