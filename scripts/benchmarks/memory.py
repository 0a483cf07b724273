"""Memory: what an association costs, and whether hours of a ward make the gateway grow.

Resident size of the server's process: it says what the machine must have. Each count of
associations gets a server of its own, so that nothing freed by an earlier one hides the cost.
Memory does not vary from run to run as time does: there is one round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import measure
from measure import Load
from servers import Missing, starter
from servers.ours import ward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Options

PEERS = {"libcoap": 10_000, "aiocoap_dtls": 1000}
"""With the most associations that they are given: aiocoap looks through its devices one by one for
the one that shakes hands, and ten thousand take it many minutes."""

_COUNTS = (1, 1000, 10_000)
_TALK = 10
"""Requests of each association, after which it is measured a second time: a device that talks has
a patient, a content key and remembered messages."""
_BRACELETS = 100
_HOURS = 4
_PACKS_AN_HOUR = 3600
"""Of each bracelet: one a second."""
_SAMPLE_S = 0.25
_MEBIBYTE = 2**20


def run(options: Options) -> dict[str, Any]:
    """Bytes by server and count; an hour of ours."""
    counts = (1, 50) if options.quick else _COUNTS
    report: dict[str, Any] = {"counts": counts, "servers": {}, "skipped": {}}
    for module in ("ours", *PEERS):
        try:
            report["servers"].update([_associations(module, counts, report["skipped"])])
        except Missing as why:
            report["skipped"][module] = str(why)
    report["hours"] = _hours(*((20, 10) if options.quick else (_BRACELETS, _PACKS_AN_HOUR)))
    return report


def _associations(
    module: str, counts: tuple[int, ...], skipped: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    """Resident bytes at start, with all associated, and after each has talked.

    A peer need not bear the largest count; what it has borne is told, and why it is no more.
    """
    name = module
    rows: dict[int, dict[str, int]] = {}
    for count in (one for one in counts if one <= PEERS.get(module, one)):
        with starter(module)() as server:
            name, at_start = server.name, server.resident()
            load = Load(server, associations=count, seconds=120.0, boot=1, in_flight=1, each=_TALK)
            try:
                with load:
                    associated = server.resident()
                    load.run()
                    talked = server.resident()
            except measure.Failed as why:
                if module == "ours" or not rows:
                    raise SystemExit(f"{name}: {why}") from None
                skipped[f"{name} with {count:,} associations"] = str(why)
                break
        rows[count] = {"at_start": at_start, "associated": associated, "talked": talked}
        measure.progress(f"{name}: {count} associations, {associated / _MEBIBYTE:.1f} MiB")
    few, many = counts[0], max(rows)
    made: dict[str, Any] = {"at_start": rows[few]["at_start"], "counts": rows}
    for key in ("associated", "talked"):
        made[f"each_{key}"] = (rows[many][key] - rows[few][key]) / (many - few)
    return name, made


def _hours(bracelets: int, packs: int) -> dict[str, Any]:
    """The messages of some hours as fast as they go, with the cloud store taking them away.

    The tables that forget by time are given an hour within some seconds and fill up to their caps:
    the first hour is the warm-up, and the most that they ever hold.
    """
    samples: list[int] = []
    with ward() as made, made.cloud_store(), made.gateway() as server:
        load = Load(server, associations=bracelets, seconds=600.0, boot=1, each=_HOURS * packs)
        with load:
            load.start()
            samples += [server.resident() for _ in load.watch(_SAMPLE_S)]
            row = load.finish()
            samples.append(server.resident())
    return {
        "bracelets": bracelets,
        "packs": packs,
        "messages": row["acknowledged"],
        "seconds": row["seconds"],
        "resident": [samples[len(samples) * hour // _HOURS] for hour in range(_HOURS)]
        + [samples[-1]],
        "most": max(samples),
    }


def tell(report: Mapping[str, Any]) -> None:
    """For people."""
    counts = report["counts"]
    print(
        "memory: resident MiB of the server's process with so many DTLS associations; in brackets "
        f"after {_TALK} requests of each"
    )
    lines = []
    for name, rows in report["servers"].items():
        cells = [
            f"{row['associated'] / _MEBIBYTE:,.1f} ({row['talked'] / _MEBIBYTE:,.1f})"
            for row in rows["counts"].values()
        ]
        cells += ["-"] * (len(counts) - len(cells))
        each = f"{rows['each_associated'] / 1024:,.2f} ({rows['each_talked'] / 1024:,.2f})"
        lines.append((name, f"{rows['at_start'] / _MEBIBYTE:,.1f}", *cells, each))
    measure.table(
        ("", "at start", *(f"{count:,}" for count in counts), "KiB an association"), lines
    )
    hours = report["hours"]
    steps = ", ".join(f"{one / _MEBIBYTE:.1f}" for one in hours["resident"])
    warm, last = hours["resident"][1], hours["resident"][-1]
    print(
        f"{_HOURS} hours of {hours['bracelets']} bracelets ({hours['messages']:,} messages, in "
        f"{hours['seconds']:.0f} s), delivered to a cloud store: MiB from hour to hour: {steps}; "
        f"after the first hour {(last - warm) / _MEBIBYTE:+.1f}"
    )
    measure.tell_skipped(report["skipped"])
