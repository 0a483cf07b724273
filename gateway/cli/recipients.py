"""``recipient``: who may read what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway import provision
from gateway.cli import places
from gateway.cli.output import show, show_one
from gateway.clock import SystemClock
from gateway.lane import LANES_OF_ROLE
from gateway.roster.recipients import ONLY_NAMED_PATIENTS

if TYPE_CHECKING:
    import argparse

    from gateway.roster.recipients import Recipient


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``recipient``."""
    recipient = commands.add_parser("recipient", help="who may read what")
    actions = recipient.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser(
        "add", help="make a reader's profile, or let a reader that is there read more patients"
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", required=True, choices=list(LANES_OF_ROLE))
    add.add_argument(
        "--patient",
        action="append",
        default=[],
        metavar="P",
        help="may be repeated; none: every patient (role patient: nobody)",
    )
    add.set_defaults(run=_add)
    actions.add_parser("list", help="all recipients").set_defaults(run=_list)


def _add(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    registry = places.recipients(loaded)
    known = registry.active(args.name)
    if known is not None and known.role == args.role and args.patient:
        recipient = registry.widen(args.name, tuple(args.patient))
    else:
        recipient = provision.add_recipient(
            loaded.path.parent,
            registry,
            args.name,
            role=args.role,
            patients=args.patient,
            cloud_url=loaded.configuration.cloud.url,
            wall=SystemClock().wall(),
        )
    folder = loaded.path.parent / "recipients" / recipient.name
    show_one(args, {**_row(recipient), "profile": str(folder)})
    if not args.json:
        print("\nMove the profile to the reader's computer: it holds private keys.")
    return 0


def _row(recipient: Recipient) -> dict[str, Any]:
    everybody = not recipient.patients and recipient.role not in ONLY_NAMED_PATIENTS
    return {
        "name": recipient.name,
        "role": recipient.role,
        "patients": ["*"] if everybody else list(recipient.patients),
        "lanes": sorted(LANES_OF_ROLE[recipient.role]),
        "added": recipient.added,
        "revoked": recipient.revoked,
    }


def _list(args: argparse.Namespace) -> int:
    rows = [_row(recipient) for recipient in places.recipients(places.loaded(args)).all()]
    show(
        args,
        rows,
        empty="no recipients; `ward-gateway recipient add NAME --role ROLE`",
        dates=("added", "revoked"),
    )
    return 0
