"""Alarm: an emergency a second while routine data flood the gateway, or wait in it by the 100 000.

What is measured, from outside: the node takes the time when it hands an emergency's datagram to the
kernel; the cloud store takes the time when the head of the request that uploads it has arrived.
Both read CLOCK_MONOTONIC of one machine, so the difference needs no synchronisation. It contains
the kernel's queues, the gateway (DTLS, triage, seal, sync to disk, lease), its HTTPS, and whatever
the store's own event loop was doing: an upper bound of "datagram to upload started". Uploads are
told apart by record id: afterwards the alarm centre's reader fetches and opens every record, and
the time inside it says which emergency it was. So it is known too that each arrived and can be
read.

The flood is open: it goes on by the clock whatever is answered, at 0, 0.5, 1 and 2 times the rate
that a closed load got acknowledged just before, and does not send again what is lost. The node that
reports the emergencies does, by RFC 7252 section 4.2. An emergency whose first datagram the kernel
threw away (its receive buffer was full: "dropped" in the table) therefore takes 2 to 3 s more:
counted in the columns "from the first datagram", left out of "sent once".
"""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import measure
from emergencies import Cloud, EmergencyNode
from load import quantiles
from servers.ours import ward

from gateway import control
from gateway.coap.numbers import ACK_TIMEOUT, Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from measure import Options, Row
    from servers import Running
    from servers.ours import Ward

FLOODS = (0.0, 0.5, 1.0, 2.0)
"""Times what the gateway can take."""

ASSOCIATIONS = 50
WINDOW_S = 20.0
WAITING = 100_000
_FILLED_WITHIN_S = 120.0
_DRAINED_WITHIN_S = 600.0


def run(options: Options) -> dict[str, Any]:
    """Both experiments, and the emergencies of all rounds put together."""
    window_s, waiting, kinds = (
        (1.0, 1000, FLOODS[::3]) if options.quick else (WINDOW_S, WAITING, FLOODS)
    )
    with ward() as made, made.gateway() as server:
        cloud = Cloud(made)
        boots = itertools.count(1)
        backlogs = [_backlog(server, made, cloud, boots, waiting) for _ in range(options.rounds)]
        floods: dict[float, list[Row]] = {times: [] for times in kinds}
        with cloud.running():
            capacity = _capacity(server, made, boots, window_s / 4, quick=options.quick)
            measure.progress(f"the gateway takes {capacity:,.0f}/s")
            for number, times in itertools.product(range(options.rounds), kinds):
                row = _flood(server, times * capacity, boots, window_s)
                _drained(made)
                floods[times].append(row)
                measure.progress(
                    f"round {number + 1} of {options.rounds}, flood {times} x:"
                    f" {len(row['emergencies'])} emergencies, {row['resent']} sent again"
                )
            _add_uploads(cloud, [*backlogs, *itertools.chain.from_iterable(floods.values())])
    return {
        "capacity": capacity,
        "window_s": window_s,
        "floods": [_summary(rows) | {"times": times} for times, rows in floods.items()],
        "backlog": _summary(backlogs) | {"waiting": waiting},
    }


def _capacity(
    server: Running, made: Ward, boots: Iterator[int], seconds: float, *, quick: bool
) -> float:
    """Requests a second that are acknowledged while the store takes what comes. The backlog has
    warmed everything up."""
    load = measure.Load(
        server,
        associations=ASSOCIATIONS,
        seconds=measure.QUICK_S if quick else seconds,
        boot=next(boots),
        expected=60_000,
        each=measure.QUICK_EACH if quick else None,
    )
    with load:
        rate = float(load.run()["rate"])
    _drained(made)
    return rate


def _flood(server: Running, rate: float, boots: Iterator[int], seconds: float) -> Row:
    """One window of emergencies, with so many routine requests a second beside them."""
    boot = next(boots)
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(EmergencyNode(server, boot))
        load = None
        if rate:
            load = stack.enter_context(
                measure.Load(
                    server, associations=ASSOCIATIONS, seconds=seconds, boot=boot, rate=rate
                )
            )
        dropped = _dropped(server.port)
        node.start()
        if load is None:
            time.sleep(seconds)
            row: Row = {}
        else:
            row = load.run()
        dropped = _dropped(server.port) - dropped
        return row | node.finish() | {"first_time": node.first_time, "dropped": dropped}


def _backlog(server: Running, made: Ward, cloud: Cloud, boots: Iterator[int], waiting: int) -> Row:
    """Fill the outbox while the store is away; then emergencies from its return until the outbox
    is empty."""
    while (missing := waiting - _rows(made)) > 0:
        load = measure.Load(
            server,
            associations=ASSOCIATIONS,
            seconds=_FILLED_WITHIN_S,
            boot=next(boots),
            each=missing // ASSOCIATIONS + 1,
        )
        with load:
            load.run()
    filled = _rows(made)
    with EmergencyNode(server, next(boots)) as node, cloud.running():
        node.start()
        began = time.perf_counter()
        _drained(made)
        took = time.perf_counter() - began
        row = node.finish()
        _drained(made)
    measure.progress(f"{filled} waiting: delivered in {took:.1f} s")
    return row | {
        "first_time": node.first_time,
        "began": began,
        "filled": filled,
        "delivery_s": took,
    }


def _rows(made: Ward) -> int:
    """Records of both lanes that wait in the outbox."""
    status = control.ask(made.folder / "state", "status")
    if status is None:
        raise SystemExit("the gateway has stopped")
    return sum(lane["rows"] for lane in status["outbox"]["lanes"].values())


def _drained(made: Ward) -> None:
    until = time.perf_counter() + _DRAINED_WITHIN_S
    while _rows(made):
        if time.perf_counter() > until:
            raise SystemExit("the cloud store has not taken everything in time")
        time.sleep(0.2)


def _dropped(port: int) -> int:
    """Datagrams to this port that found the receive buffer full so far (Linux)."""
    dropped = 0
    for name in ("/proc/net/udp", "/proc/net/udp6"):
        with contextlib.suppress(FileNotFoundError), open(name) as table:
            for line in itertools.islice(table, 1, None):
                columns = line.split()
                if int(columns[1].rsplit(":", 1)[1], 16) == port:
                    dropped += int(columns[-1])
    return dropped


def _add_uploads(cloud: Cloud, rows: Sequence[Row]) -> None:
    """``started``: for each emergency when its upload reached the store, or None."""
    uploads, ids = cloud.uploads(), cloud.emergencies()
    for row in rows:
        row["started"] = [
            uploads.get(ids.get(row["first_time"] + n, "")) for n in range(len(row["emergencies"]))
        ]


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """All rounds of one kind in one."""
    every = [
        (sent, answered, code, started)
        for row in rows
        for (sent, answered, code), started in zip(row["emergencies"], row["started"], strict=True)
    ]
    summary: dict[str, Any] = {
        "emergencies": len(every),
        "acknowledged": sum(code == Code.CHANGED for _, _, code, _ in every),
        "uploaded": sum(started is not None for *_, started in every),
        "resent": sum(row["resent"] for row in rows),
        "upload_ms": _quantiles(started - sent for sent, *_, started in every if started),
        # An answer before the shortest time limit: there was one datagram only.
        "upload_once_ms": _quantiles(
            started - sent
            for sent, answered, _, started in every
            if started and answered and answered - sent < ACK_TIMEOUT
        ),
        "answer_ms": _quantiles(answered - sent for sent, answered, *_ in every if answered),
    }
    if "began" in rows[0]:
        summary["delivered_per_s"] = [row["filled"] / row["delivery_s"] for row in rows]
    if "rate" in rows[0]:
        summary["offered"] = sum(row["sent"] for row in rows) / sum(row["seconds"] for row in rows)
        for key in ("sent", "acknowledged", "unanswered"):
            summary[f"routine_{key}"] = sum(row[key] for row in rows)
        summary["routine_refused"] = sum(sum(row["refused"].values()) for row in rows)
        summary["routine_rate"] = measure.figures(rows, ("rate",))["rate"]
        summary["dropped"] = sum(row["dropped"] for row in rows)
    return summary


def _quantiles(seconds: Iterator[float]) -> dict[str, float]:
    """Milliseconds."""
    return quantiles(sorted(1000 * one for one in seconds))


def tell(report: dict[str, Any]) -> None:
    """For people."""
    print(
        "alarm: about 1 emergency a second beside a routine flood of so many times what the gateway"
        f" takes ({report['capacity']:,.0f}/s, delivering), {report['window_s']:.0f} s a round"
    )
    print("milliseconds from the node's datagram to the upload's arrival at the store: p50/p99/max")
    head = [
        *("flood", "offered/s", "stored/s", "refused", "unanswered", "dropped", "emergencies"),
        *("2.04", "uploaded", "sent again", "from the first datagram", "sent once", "2.04 after"),
    ]
    table = []
    for row in report["floods"]:
        offered = row.get("offered", 0.0)
        table.append(
            (
                f"{row['times']:g} x",
                f"{offered:,.0f}",
                f"{row['routine_rate']['median']:,.0f}" if offered else "",
                _share(row["routine_refused"], row["routine_sent"]) if offered else "",
                _share(row["routine_unanswered"], row["routine_sent"]) if offered else "",
                _share(row["dropped"], row["routine_sent"]) if offered else "",
                *_emergencies(row),
            )
        )
    backlog = report["backlog"]
    table.append((f"{backlog['waiting']:,} waiting", *[""] * 5, *_emergencies(backlog)))
    measure.table(head, table)
    rates = backlog["delivered_per_s"]
    print(f"the backlog was delivered at {min(rates):,.0f} to {max(rates):,.0f} records/s")


def _emergencies(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["emergencies"]),
        str(row["acknowledged"]),
        str(row["uploaded"]),
        str(row["resent"]),
        _three(row["upload_ms"]),
        _three(row["upload_once_ms"]),
        _three(row["answer_ms"]),
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}"


def _three(figures: dict[str, float]) -> str:
    return "/".join(f"{value:.0f}" for value in figures.values()) or "none"
