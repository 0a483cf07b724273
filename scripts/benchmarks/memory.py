"""Memory: what an association costs, and whether an hour of a ward makes the gateway grow.

Resident size of the server's process: it says what the machine must have. Each count of
associations gets a server of its own, so that nothing freed by an earlier one hides the cost.
Memory does not vary from run to run as time does: there is one round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import measure
from measure import Load
from servers import DEVICES, Missing, starter
from servers.ours import ward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Options

PEERS: dict[str, dict[str, int]] = {"libcoap": {}, "aiocoap_dtls": {"devices": DEVICES}}
"""With what they are started."""

_COUNTS = (1, 1000, 10_000)
_TALK = 10
"""Requests of each association, after which it is measured a second time: a device that talks has
a patient, a content key and remembered messages."""
_HOUR = (100, 3600)
"""Bracelets, and packs of each: one a second."""
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
    report["hour"] = _hour(*((20, 40) if options.quick else _HOUR))
    return report


def _associations(
    module: str, counts: tuple[int, ...], skipped: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    """Resident bytes at start, with all associated, and after each has talked.

    A peer need not bear the largest count; what it has borne is told, and why it is no more.
    """
    name = module
    rows: dict[int, dict[str, int]] = {}
    for count in counts:
        with starter(module)(**PEERS.get(module, {})) as server:
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


def _hour(bracelets: int, packs: int) -> dict[str, Any]:
    """An hour's messages as fast as they go, with the cloud store taking them away.

    The tables that forget by time get an hour's worth within a minute or so: this is the worst of
    an hour, not its mean.
    """
    samples: list[int] = []
    with ward() as made, made.cloud_store(), made.gateway() as server:
        load = Load(server, associations=bracelets, seconds=600.0, boot=1, each=packs)
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
        "resident": [samples[len(samples) * sixth // 6] for sixth in range(6)] + [samples[-1]],
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
        cells += ["failed"] * (len(counts) - len(cells))
        each = f"{rows['each_associated'] / 1024:,.2f} ({rows['each_talked'] / 1024:,.2f})"
        lines.append((name, f"{rows['at_start'] / _MEBIBYTE:,.1f}", *cells, each))
    measure.table(
        ("", "at start", *(f"{count:,}" for count in counts), "KiB an association"), lines
    )
    hour = report["hour"]
    steps = ", ".join(f"{one / _MEBIBYTE:.1f}" for one in hour["resident"])
    first, last = hour["resident"][2], hour["resident"][-1]
    print(
        f"an hour of {hour['bracelets']} bracelets ({hour['messages']:,} messages, in "
        f"{hour['seconds']:.0f} s), delivered to a cloud store: MiB at each sixth: {steps}; "
        f"from the second sixth to the end {(last - first) / _MEBIBYTE:+.1f}"
    )
    measure.tell_skipped(report["skipped"])
