"""``outbox`` and ``alarm``: what waits, and what is wrong with whom."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import control
from gateway.cli import dead, places
from gateway.cli.output import show, text
from gateway.clock import SystemClock
from gateway.errors import UsageError
from gateway.outbox.salvage import open_store
from gateway.outbox.writer import Writer
from gateway.workers import totals
from gateway.workers.place import outboxes

if TYPE_CHECKING:
    import argparse

    from gateway.config.loading import Loaded


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``outbox`` and ``alarm``."""
    outbox = commands.add_parser("outbox", help="the durable queue")
    actions = outbox.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("status", help="what waits, how much, how old").set_defaults(run=_status)
    dead.add_actions(actions)
    alarm = commands.add_parser("alarm", help="the alarms of this gateway")
    actions = alarm.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("list", help="those whose condition holds").set_defaults(run=_alarms)


def _status(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    running = control.ask(loaded.configuration.gateway.state, "status")
    outbox = running["outbox"] if running else asyncio.run(_from_disk(loaded))
    _tell(args, outbox, running["delivery"] if running else {})
    if running and not args.json:
        shed = running["messages"].get("shed", 0)
        dropped = sum(running["dropped_by_kernel"].values())
        if shed or dropped:
            print(f"overload: {shed} messages shed, {dropped} datagrams dropped by the kernel")
    return 0


def _tell(args: argparse.Namespace, outbox: dict[str, Any], delivery: dict[str, Any]) -> None:
    rows = _rows(outbox, delivery, time.time())
    if args.json:
        show(args, rows, empty="")
        return
    for row in rows:
        # A failure is a sentence: it stands below the table.
        if delivery:
            row["delivery"] = delivery[row["lane"]]["state"]
    show(args, rows, empty="")
    print()
    for lane, figures in delivery.items():
        if figures.get("failure"):
            print(f"{lane}: {text(figures['failure'])}")
    print(
        f"{outbox['size']} of {outbox['max_bytes']} bytes used, "
        f"{outbox['reserve_bytes']} of them for emergencies only\n"
        f"{outbox['dead']} dead letters, {outbox['damaged']} damaged, {outbox['lost']} lost"
    )
    if outbox["notice"]:
        print(outbox["notice"])


def _rows(outbox: dict[str, Any], delivery: dict[str, Any], now: float) -> list[dict[str, Any]]:
    """A row a lane. delivery: empty when no gateway runs."""
    rows: list[dict[str, Any]] = []
    for lane, figures in outbox["lanes"].items():
        how = delivery.get(lane, {"state": "gateway not running"})
        oldest = figures["oldest_ms"]
        rows.append(
            {
                "lane": lane,
                "waiting": figures["rows"],
                "bytes": figures["size"],
                "oldest_s": None if oldest is None else max(0, round(now - oldest / 1000)),
                "delivered": figures["delivered"],
                "refused": figures["refused"],
                "delivery": how.get("failure") or how["state"],
            }
        )
    return rows


async def _from_disk(loaded: Loaded) -> dict[str, Any]:
    configuration = loaded.configuration
    paths = outboxes(configuration.gateway.state)
    if not paths:
        raise UsageError(
            f"{configuration.gateway.state}: no outbox yet; `ward-gateway run` makes it"
        )
    found = []
    for path in paths:
        writer = Writer(partial(open_store, path), configuration.outbox, SystemClock())
        await writer.start(
            on_committed=lambda tokens: None,
            on_refused=lambda tokens, error: None,
            on_failure=lambda error: None,
        )
        try:
            found.append(asdict(writer.status()))
        finally:
            await writer.close()
    quota = {name: found[0][name] for name in ("max_bytes", "reserve_bytes")}
    return {**totals.of_outboxes(found), **quota}


def _alarms(args: argparse.Namespace) -> int:
    alarms = control.ask(places.loaded(args).configuration.gateway.state, "alarms")
    if alarms is None:
        raise UsageError("the gateway is not running; its alarms are there again when it is")
    if not args.json:
        alarms = [_short(alarm) for alarm in alarms]
    show(args, alarms, empty="no alarms", wrapped="detail")
    return 0


def _short(alarm: dict[str, Any]) -> dict[str, Any]:
    """What a table has room for: neither the id nor the year, which JSON keeps."""
    return {
        "raised (UTC)": alarm["raised"][5:19].replace("T", " "),
        **{name: alarm[name] for name in ("patient", "device", "priority", "rule", "detail")},
    }
