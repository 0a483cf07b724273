"""Ingest: DTLS CON POST -> triaged, sealed, synced to disk -> 2.04.

The cloud store is away: only the way in is measured. The peers answer at once and store nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import measure
from measure import Load, Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from measure import Options
    from servers import Running

ASSOCIATIONS = 50
IN_FLIGHT = 8
"""Of each association, unless the server fails with so many (``Running.in_flight``)."""

PEERS = ("libcoap", "aiocoap_dtls", "aiocoap_udp", "californium")

_WINDOW_S = 3.0
_KEYS = ("rate", "cpu_us", "user_us", "system_us", "generator_busy", "resent", "unanswered")


class Turns:
    """Rounds of the same load; remembers how many requests each server comes to."""

    def __init__(self, *, quick: bool, associations: int = ASSOCIATIONS) -> None:
        self._quick = quick
        self._associations = associations
        self._expected: dict[str, float] = {}
        self._boots = 0

    def once(self, server: Running, number: int) -> Row:
        """One round against one server."""
        self._boots += 1
        seconds = server.warm_up_s if number == measure.WARM_UP else _WINDOW_S
        with Load(
            server,
            associations=self._associations,
            in_flight=IN_FLIGHT,
            seconds=measure.QUICK_S if self._quick else seconds,
            expected=self._expected.get(server.name, 150_000.0),
            each=measure.QUICK_EACH if self._quick else None,
            boot=self._boots,
        ) as load:
            row = load.run()
        # Half as much again: a server that runs out of requests ends the window early.
        self._expected[server.name] = max(self._expected.get(server.name, 0.0), 1.5 * row["rate"])
        return row


def run(options: Options) -> dict[str, Any]:
    """All rounds; figures by server."""
    turns = Turns(quick=options.quick)
    with contextlib.ExitStack() as stack:
        running, skipped = measure.open_all(stack, ("ours", "interpreted", *PEERS))
        rows = measure.rounds(
            running, turns.once, options.rounds, skipped, warm_up=not options.quick
        )
        servers = {one.name: summary(one, rows[one.name]) for one in running if one.name in rows}
    return {"servers": servers, "skipped": skipped}


def summary(server: Running, rows: Sequence[Row]) -> dict[str, Any]:
    """What is told of a server's rounds."""
    made: dict[str, Any] = measure.figures(rows, _KEYS)
    made["p99_ms"] = measure.figures([row["latency_ms"] for row in rows], ("p99",))["p99"]
    made |= {key: rows[0][key] for key in ("request_bytes", "in_flight", "associations")}
    refused = sum(sum(row["refused"].values()) for row in rows)
    return made | {"acknowledges": server.acknowledges, "dtls": server.dtls, "refused": refused}


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    servers = report["servers"]
    ours = servers["ward-gateway"]
    print(
        f"ingest: {ours['associations']} associations x {ours['in_flight']} in flight, DTLS PSK "
        f"CCM8, SenML-CBOR, datagrams of {ours['request_bytes']} bytes; median (lowest-highest)"
    )
    tell_servers(servers)
    for name, peer in servers.items():
        if peer is not ours:
            print(
                f"ward-gateway / {name}: rate {ratio(ours, peer, 'rate'):.2f}, "
                f"CPU a request {ratio(ours, peer, 'cpu_us'):.2f}"
            )
    measure.tell_skipped(report["skipped"])


def tell_servers(servers: Mapping[str, Mapping[str, Any]]) -> None:
    """The table: a line a server."""
    head = (
        "",
        "acknowledged/s",
        "CPU us/request",
        "user",
        "system",
        "p99 ms",
        "in flight",
        "re-sent",
        "lost",
        "generator",
        "at most",
    )
    lines = []
    meanings: dict[str, list[str]] = {}
    for name, row in servers.items():
        busy = row["generator_busy"]["median"]
        told = name if row["dtls"] else f"{name} (no DTLS)"
        meanings.setdefault(row["acknowledges"], []).append(name)
        lines.append(
            (
                told,
                measure.spread(row["rate"]),
                measure.spread(row["cpu_us"], 1),
                f"{row['user_us']['median']:.1f}",
                f"{row['system_us']['median']:.1f}",
                f"{row['p99_ms']['median']:.0f}",
                f"{row['associations']}x{row['in_flight']}",
                f"{row['resent']['median']:.0f}",
                f"{row['unanswered']['median'] + row['refused']:.0f}",
                f"{busy:.0%}",
                f"{row['rate']['median'] / busy:,.0f}/s",
            )
        )
    measure.table(head, lines)
    print(
        "CPU: of the server's process. Generator: how busy its one thread was, and the rate at "
        "which it would be the limit."
    )
    for meaning, names in meanings.items():
        print(f"an answer of {', '.join(names)} means: {meaning}")


def ratio(ours: Mapping[str, Any], peer: Mapping[str, Any], key: str) -> float:
    """Of medians."""
    return float(ours[key]["median"] / peer[key]["median"])
