"""``config`` and ``version``: what is in force."""

from __future__ import annotations

import json
import platform
import sqlite3
from importlib.metadata import version
from typing import TYPE_CHECKING

from cryptography.hazmat.backends.openssl import backend

from gateway.cli import places
from gateway.cli.output import show, show_one
from gateway.config import documents

if TYPE_CHECKING:
    import argparse

_LIBRARIES = ("aiocoap", "aiohttp", "cbor2", "cryptography", "pyOpenSSL")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``config`` and ``version``."""
    config = commands.add_parser("config", help="the configuration")
    actions = config.add_subparsers(metavar="ACTION", required=True)
    in_force = actions.add_parser("show", help="the file, or with --effective what is in force")
    in_force.add_argument(
        "--effective", action="store_true", help="every value and where it comes from"
    )
    in_force.set_defaults(run=_show)
    actions.add_parser("schema", help="JSON Schema of gateway.toml").set_defaults(run=_schema)
    commands.add_parser("version", help="versions of the program and its libraries").set_defaults(
        run=_version
    )


def _show(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    rows = [
        {"key": key, "value": value, "source": source}
        for key, value, source in documents.effective(loaded)
        if args.effective or source != "default"
    ]
    show(args, rows, empty=f"{loaded.path}: everything is at its default")
    return 0


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(documents.schema(), indent=1))
    return 0


def _version(args: argparse.Namespace) -> int:
    values = {
        "ward-gateway": version("ward-gateway"),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
        "sqlite": sqlite3.sqlite_version,
    }
    show_one(args, values | {name: version(name) for name in _LIBRARIES})
    return 0
