"""``outbox list``, ``retry``, ``drop`` and ``export``: what the cloud store will not take."""

from __future__ import annotations

import argparse
import os
import re
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway import letters
from gateway.cli import places
from gateway.cli.output import show, show_one
from gateway.clock import iso
from gateway.cose.record import Header
from gateway.errors import UsageError
from gateway.lane import Lane
from gateway.letters import Name
from gateway.reader import export
from gateway.roster import secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.config.loading import Loaded
    from gateway.letters import Letters

_NAME: Final = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,19})", re.ASCII)
_NONE: Final = "no dead letters"


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add them to ``outbox``."""
    listing = actions.add_parser("list", help="dead letters: refused for good, or damaged")
    listing.set_defaults(run=_list)
    retry = actions.add_parser("retry", help="try dead letters again")
    _add_names(retry)
    retry.set_defaults(run=_retry)
    drop = actions.add_parser("drop", help="delete dead letters: nobody will ever read them")
    _add_names(drop)
    drop.add_argument("--yes", action="store_true", help="with --all: they are to be lost")
    drop.set_defaults(run=_drop)
    to_file = actions.add_parser(
        "export", help="dead letters, sealed as they are, into a file for `read --file`"
    )
    to_file.add_argument("file", type=Path, metavar="FILE", help="a new file")
    to_file.set_defaults(run=_export)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NUMBER", help="as `outbox list` shows it"
    )
    parser.add_argument("--all", action="store_true", help="every one")


def _name(text: str) -> Name:
    match = _NAME.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 17, or 2:17")
    return Name(int(match[1] or 0), int(match[2]))


def _list(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    source = _letters(loaded)
    several = source.outboxes() != [0]
    patients = _patients(loaded)
    rows = [
        _row(letter, f"{outbox}:" if several else "", patients, everything=args.json)
        for outbox, letter in letters.every(source)
    ]
    show(args, rows, empty=_NONE, wrapped="reason")
    return 0


def _row(
    letter: dict[str, Any], prefix: str, patients: dict[str, str], *, everything: bool
) -> dict[str, Any]:
    record = letter["record"] or {}
    patient = record.get("patient")
    received_ms = record.get("received_ms")
    return {
        "number": f"{prefix}{letter['number']}",
        "lane": letter["lane"],
        "patient": patients.get(str(patient), patient),
        "received": None if received_ms is None else iso(received_ms / 1000),
        "refused": iso(letter["at_ms"] / 1000),
        **({"id": record.get("id"), "epoch": record.get("epoch")} if everything else {}),
        "reason": letter["reason"],
    }


def _retry(args: argparse.Namespace) -> int:
    source = _letters(places.loaded(args))
    return _treat(args, source, source.retry, "to be tried again")


def _drop(args: argparse.Namespace) -> int:
    if args.all and not args.yes:
        raise UsageError("--all deletes every dead letter for good: say --yes too")
    source = _letters(places.loaded(args))
    return _treat(args, source, source.drop, "deleted for good")


def _treat(
    args: argparse.Namespace,
    source: Letters,
    treat: Callable[[int, list[int]], int],
    done: str,
) -> int:
    if args.all == bool(args.names):
        raise UsageError("name the dead letters by their numbers, or say --all")
    names = args.names or [Name(outbox, one["number"]) for outbox, one in letters.every(source)]
    count = sum(treat(outbox, numbers) for outbox, numbers in letters.portions(names))
    if args.json:
        show_one(args, {"named": len(set(names)), "done": count})
    else:
        print(f"{count} of {len(set(names))} dead letters {done}" if names else _NONE)
    return 0 if count == len(set(names)) else 1


def _export(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    source = _letters(loaded)
    written = damaged = 0
    try:
        descriptor = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(export.BEGINNING)
            for item in _items(source, loaded.configuration.gateway.name):
                if item is None:
                    damaged += 1
                else:
                    written += file.write(item[1]) > 0 and item[0] == "record"
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"{args.file}: cannot be written: {error.strerror}") from None
    if args.json:
        show_one(args, {"file": str(args.file), "records": written, "damaged": damaged})
        return 0
    how = f"`ward-gateway read --as NAME --file {args.file}` opens them"
    print(f"{written} sealed records written; {how}")
    if damaged:
        print(f"{damaged} damaged ones are not in it: nobody could open them")
    return 0


def _items(source: Letters, gateway: str) -> Iterator[tuple[str, bytes] | None]:
    """What stands in the file, in order; None for a letter that is damaged."""
    known: set[tuple[int, str]] = set()
    for outbox, letter in letters.every(source):
        record = letter["record"]
        if record is None:
            yield None
            continue
        epoch = record["epoch"]
        if (outbox, epoch) not in known:
            known.add((outbox, epoch))
            for found, message in source.envelopes(outbox, [epoch]).items():
                yield "envelope", export.envelope(bytes.fromhex(found), b64decode(message))
        header = Header(
            bytes.fromhex(record["id"]),
            bytes.fromhex(record["patient"]),
            Lane(letter["lane"]),
            record["received_ms"],
            bytes.fromhex(epoch),
        )
        sealed = b64decode(record["sealed"])
        yield "record", export.record(gateway, header, sealed, letter["reason"])


def _letters(loaded: Loaded) -> Letters:
    return letters.letters(loaded.configuration.gateway.state)


def _patients(loaded: Loaded) -> dict[str, str]:
    """Pseudonym in hex -> patient, of those that devices are on."""
    key = secret.pseudonym_key(secret.load(loaded.configuration.gateway.state))
    names = {one.patient for one in places.devices(loaded).all()}
    return {secret.pseudonym(key, name).hex(): name for name in names}
