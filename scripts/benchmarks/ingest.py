"""Ingest: DTLS CON POST -> triaged, sealed, synced to disk -> 2.04, beside libcoap's server.

Ours and the peer take turns, so that a slow minute of the machine meets both.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import servers

if TYPE_CHECKING:
    from servers import Running

ASSOCIATIONS = 50
IN_FLIGHT = 2
"""Of each association. With 150 in all the socket buffer of libcoap's server overflows."""

EACH = 1200
"""Requests of one association in one round."""

MEMORY_ASSOCIATIONS = 1000


def once(server: Running, boot: int, each: int, associations: int = ASSOCIATIONS) -> dict[str, Any]:
    """One round against one server."""
    arguments = {
        "host": "127.0.0.1",
        "port": server.port,
        "key": servers.KEY,
        "method": server.method,
        "path": server.path,
        "associations": associations,
        "in_flight": IN_FLIGHT,
        "each": each,
        "boot": boot,
    }
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("load.py")), json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        if load.stdout.readline() != "ready\n":
            raise SystemExit(f"{server.name}: the load generator could not connect")
        associated = server.resident()
        user, system = server.cpu()
        load.stdin.write("go\n")
        load.stdin.flush()
        line = load.stdout.readline()
        user_after, system_after = server.cpu()
        if not line:
            raise SystemExit(f"{server.name}: no result")
        result: dict[str, Any] = json.loads(line)
    sent, acknowledged = result["sent"], result["acknowledged"]
    if acknowledged != sent:
        raise SystemExit(f"{server.name}: {acknowledged} of {sent} acknowledged")
    result["resident_associated"] = associated
    result["user_us"] = (user_after - user) / sent * 1e6
    result["system_us"] = (system_after - system) / sent * 1e6
    result["cpu_us"] = result["user_us"] + result["system_us"]
    return result


def run(rounds: int) -> dict[str, Any]:
    """All rounds; figures by server."""
    results: dict[str, list[dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(servers.ward_gateway())
        at_start = ours.resident()
        peer = stack.enter_context(servers.libcoap())
        running = [one for one in (ours, peer) if one is not None]
        for one in running:
            once(one, 1, 200)  # warm-up
        for number in range(rounds):
            for one in running:
                results.setdefault(one.name, []).append(once(one, 2 + number, EACH))
                print(
                    f"round {number + 1} {one.name}: {results[one.name][-1]['rate']:.0f}/s",
                    file=sys.stderr,
                )
    report: dict[str, Any] = {
        name: {
            key: {
                "median": statistics.median(one[key] for one in rows),
                "min": min(one[key] for one in rows),
                "max": max(one[key] for one in rows),
            }
            for key in ("rate", "cpu_us", "user_us", "system_us", "generator_busy")
        }
        for name, rows in results.items()
    }
    report["request_bytes"] = results[ours.name][0]["request_bytes"]
    report["resident_at_start"] = at_start
    report["bytes_per_association"] = _memory()
    return report


def _memory() -> float:
    """Resident bytes that an association adds once its handshake is done."""
    with servers.ward_gateway() as ours:
        few = once(ours, 1, 1, associations=1)["resident_associated"]
        many = once(ours, 2, 1, associations=MEMORY_ASSOCIATIONS)["resident_associated"]
        return float(many - few) / (MEMORY_ASSOCIATIONS - 1)


def tell(report: dict[str, Any]) -> None:
    """For people."""
    print(
        f"ingest: {ASSOCIATIONS} associations x {IN_FLIGHT} in flight, DTLS PSK CCM8, "
        f"datagrams of {report['request_bytes']} bytes"
    )
    print(
        f"{'':14}{'requests/s':>22}{'CPU us/request':>20}{'user':>7}{'system':>8}{'generator':>11}"
    )
    for name in ("ward-gateway", "libcoap"):
        if name not in report:
            print(f"{name:<14}not installed: skipped")
            continue
        row = report[name]
        busy = row["generator_busy"]["median"]
        print(
            f"{name:<14}{_spread(row['rate'], 0):>22}{_spread(row['cpu_us'], 1):>20}"
            f"{row['user_us']['median']:>7.1f}{row['system_us']['median']:>8.1f}{busy:>11.0%}"
        )
    if "libcoap" in report:
        ours, peer = report["ward-gateway"], report["libcoap"]
        print(
            f"ratio to libcoap: rate {ours['rate']['median'] / peer['rate']['median']:.2f}, "
            f"CPU per request {ours['cpu_us']['median'] / peer['cpu_us']['median']:.2f} "
            "(libcoap stores nothing)"
        )
    print(
        f"memory: {report['resident_at_start'] / 2**20:.1f} MiB resident at start, "
        f"{report['bytes_per_association'] / 1024:.1f} KiB an association"
    )


def _spread(figures: dict[str, float], digits: int) -> str:
    low, middle, high = (f"{figures[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low}-{high})"
