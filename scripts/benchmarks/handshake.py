"""Handshakes: full ones, with pre-shared keys and with certificates on both sides.

The node's side costs about what the server's does, so on two cores the rate can be the generator's
and not the server's: the CPU time of the server is the figure to compare, and what one core could
do follows from it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import measure
from measure import Generator
from servers import KEY, Missing, libcoap, ours

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from measure import Options, Row
    from servers import Running

PEERS = ("libcoap", "aiocoap_dtls", "californium")
PSK = "PSK-AES128-CCM8"
X509 = "ECDHE-ECDSA-AES128-CCM8"

_AT_ONCE = 16
_WINDOW_S = 3.0
_KEYS = ("rate", "cpu_us", "user_us", "system_us", "server_busy", "generator_busy", "failed")


def run(options: Options) -> dict[str, Any]:
    """Figures by suite and server."""
    seconds = 0.2 if options.quick else _WINDOW_S
    report: dict[str, Any] = {"at_once": _AT_ONCE, "suites": {}, "skipped": {}}
    skipped = report["skipped"]
    with ours.start() as gateway, contextlib.ExitStack() as stack:
        peers, missing = measure.open_all(stack, PEERS)
        skipped |= missing
        shaking = _Shaking(PSK, None, seconds)
        rows = measure.rounds(
            [gateway, *peers], shaking.once, options.rounds, skipped, warm_up=not options.quick
        )
        report["suites"][PSK] = _summary(rows)
    with ours.ward() as ward, contextlib.ExitStack() as stack:
        device = ward.certified_device()
        servers = [stack.enter_context(ward.gateway())]
        with contextlib.suppress(Missing):  # told above
            servers.append(stack.enter_context(libcoap.start(certificates=ward.folder)))
        shaking = _Shaking(X509, device, seconds)
        rows = measure.rounds(
            servers, shaking.once, options.rounds, skipped, warm_up=not options.quick
        )
        report["suites"][X509] = _summary(rows)
    return report


class _Shaking:
    """Rounds with one suite. device: the folder of a certified device's files."""

    def __init__(self, suite: str, device: Path | None, seconds: float) -> None:
        self._arguments = {"suite": suite, "at_once": _AT_ONCE, "seconds": seconds, "key": KEY}
        if device is not None:
            self._arguments["device"] = str(device)

    def once(self, server: Running, number: int) -> Row:
        with Generator(server, "shake.py", self._arguments | {"port": server.port}) as shaking:
            return shaking.run()


def _summary(rows: Mapping[str, list[Row]]) -> dict[str, Any]:
    return {name: measure.figures(those, _KEYS) for name, those in rows.items()}


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    for suite, servers in report["suites"].items():
        print(f"handshake: full, {suite}, {report['at_once']} at a time; median (lowest-highest)")
        own = servers["ward-gateway"]
        lines = []
        for name, row in servers.items():
            cpu = row["cpu_us"]["median"]
            lines.append(
                (
                    name,
                    measure.spread(row["cpu_us"]),
                    f"{row['user_us']['median']:.0f}",
                    f"{row['system_us']['median']:.0f}",
                    f"{1e6 / cpu:,.0f}",
                    measure.spread(row["rate"]),
                    f"{row['server_busy']['median']:.0%}",
                    f"{row['generator_busy']['median']:.0%}",
                    f"{row['failed']['median']:.0f}",
                )
            )
        head = (
            "",
            "CPU us/handshake",
            "user",
            "system",
            "so a core does/s",
            "measured/s",
            "server",
            "generator",
            "failed",
        )
        measure.table(head, lines)
        for name, row in servers.items():
            if row is not own:
                faster = row["cpu_us"]["median"] / own["cpu_us"]["median"]
                print(f"ward-gateway / {name}: handshakes a core {faster:.2f}")
    print(
        "server, generator: how busy their processes were. A generator at 100% was the limit of "
        "the measured rate."
    )
    measure.tell_skipped(report["skipped"])
