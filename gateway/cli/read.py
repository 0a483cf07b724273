"""``ward-gateway read``: the recipient's reader."""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import signal
import sys
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import gateway.reader.formats
from gateway.clock import SystemClock
from gateway.lane import Lane
from gateway.reader.export import ExportFile
from gateway.reader.fetch import CloudClient
from gateway.reader.formats import Format, formats
from gateway.reader.opening import Opened, Opening
from gateway.reader.profile import Profile, load, locate
from gateway.reader.reading import CaughtUp, Interrupted, Source, Unopened, read
from gateway.registry import load_all

_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``read``."""
    load_all(gateway.reader.formats)
    parser = commands.add_parser("read", help="fetch, verify and open what a recipient may read")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--as", dest="recipient", metavar="NAME", help="a recipient beside gateway.toml"
    )
    who.add_argument("--profile", type=Path, metavar="DIR", help="a recipient's folder")
    parser.add_argument("--patient", metavar="P", help="this patient only")
    parser.add_argument(
        "--lane", type=Lane, choices=list(Lane), metavar="L", help=" or ".join(Lane)
    )
    parser.add_argument(
        "--since",
        type=_since_ms,
        default=0,
        metavar="T",
        help="received since then: 15m, 2h, 3d, or 2026-11-21T08:00 (UTC unless it says)",
    )
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="what `outbox export` wrote, instead of the store"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    parser.add_argument(
        "--format",
        choices=[name for name, _ in formats.items()],
        default="table",
        help="default: table; --json is the same as jsonl",
    )
    parser.set_defaults(run=run_reader)


def run_reader(args: argparse.Namespace) -> int:
    """0, or 1 if a record was tampered with. Raises ConfigError, or what the client raises."""
    folder = args.profile or locate(getattr(args, "config", None), args.recipient)
    profile = load(folder)
    opening = Opening(profile.load_authority(), profile.load_sealing_key())
    name = "jsonl" if getattr(args, "json", False) else args.format
    shape = formats.get(name)(shutil.get_terminal_size(fallback=(80, 24)).columns)
    return asyncio.run(_show(args, profile, opening, shape))


async def _show(args: argparse.Namespace, profile: Profile, opening: Opening, shape: Format) -> int:
    task = asyncio.current_task()
    assert task is not None, "run by asyncio.run"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    seen = 0
    tampered = 0
    try:
        async with _source(args, profile) as source:
            events = read(source, opening, lane=args.lane, since_ms=args.since, follow=args.follow)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Opened):
                        if args.patient in {None, event.patient}:
                            seen += 1
                            _print(event, shape)
                    elif isinstance(event, Unopened):
                        tampered += event.tampered
                        _complain(_unopened(event))
                    elif isinstance(event, Interrupted):
                        _complain(f"{event.reason}; waiting for it")
                    elif isinstance(event, CaughtUp) and not seen:
                        _complain(_nothing(args, profile))
    except asyncio.CancelledError:
        if not args.follow:
            raise  # cut short: not everything was shown
    return 1 if tampered else 0


def _source(args: argparse.Namespace, profile: Profile) -> AbstractAsyncContextManager[Source]:
    path = getattr(args, "file", None)
    return CloudClient(profile) if path is None else nullcontext(ExportFile(path))


def _print(opened: Opened, shape: Format) -> None:
    lines = list(shape.lines(opened))
    if lines:
        print("\n".join(lines), flush=True)
    else:
        _complain(f"record {opened.id.hex()} was sealed by its node: jsonl can show it")


def _unopened(event: Unopened) -> str:
    record = event.item.header.id.hex()
    if event.tampered:
        return f"record {record} was TAMPERED with and is not shown: {event.reason}"
    return f"record {record} is not for this recipient: {event.reason}"


def _nothing(args: argparse.Namespace, profile: Profile) -> str:
    asked = args.patient is not None or args.lane is not None or args.since > 0
    reason = "matches" if asked else "may be read by this recipient"
    waiting = "; waiting for what comes" if args.follow else ""
    return f"nothing to show: no record {reason} ({profile.name}, role {profile.role}){waiting}"


def _complain(line: str) -> None:
    print("".join(c if c.isprintable() else "�" for c in line), file=sys.stderr, flush=True)


def _since_ms(text: str) -> int:
    """UTC milliseconds of ``2h`` (ago) or of an ISO 8601 date or time."""
    ago = _AGO.fullmatch(text)
    if ago:
        seconds = int(ago[1]) * _SECONDS[ago[2]]
        return max(0, int((SystemClock().wall() - seconds) * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time ago, such as 15m, 2h or 3d, nor an ISO 8601 time"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))
