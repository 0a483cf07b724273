"""``init``: a new ward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway import provision
from gateway.cli.output import show_one
from gateway.clock import SystemClock

if TYPE_CHECKING:
    import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``init``."""
    init = commands.add_parser(
        "init", help="make a ward: configuration, keys, certificates, recipients"
    )
    init.add_argument("dir", type=Path, metavar="DIR", help="a new folder")
    init.add_argument("--ward", default="ward", metavar="NAME", help="name of the ward")
    init.add_argument("--cloud", metavar="URL", help="the cloud store, https://HOST[:PORT]")
    init.add_argument(
        "--port-base", type=int, metavar="P", help="use ports P to P+3 instead of the usual ones"
    )
    init.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    folder: Path = args.dir
    recipients = provision.make_ward(
        folder,
        ward=args.ward,
        cloud_url=args.cloud,
        port_base=args.port_base,
        wall=SystemClock().wall(),
    )
    ports = provision.Ports.of(args.port_base)
    if args.json:
        show_one(
            args,
            {
                "dir": str(folder),
                "ward": args.ward,
                "coaps_port": ports.coaps,
                "console_port": ports.console,
                "cloud_port": ports.cloud,
                "recipients": [one.name for one in recipients],
            },
        )
        return 0
    print(f"Ward {args.ward!r} is in {folder}.")
    print(f"Recipients: {', '.join(one.name for one in recipients)}.\n")
    print("Next, each in a terminal of its own:\n")
    print(f"  ward-gateway cloud run --config {folder}/cloud.toml")
    print(f"  ward-gateway run --config {folder}/gateway.toml\n")
    print("Then a device, a heartbeat, and reading it:\n")
    print(f"  ward-gateway --config {folder}/gateway.toml device add bracelet-1 --patient P1")
    print("  ward-gateway send --psk-identity bracelet-1 --psk-key KEY \\")
    print(f'    coaps://127.0.0.1:{ports.coaps}/v \'[{{"n":"hr","u":"1/min","v":72}}]\'')
    print(f"  ward-gateway --config {folder}/gateway.toml read --as doctor")
    return 0
