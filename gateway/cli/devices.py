"""``device``: the device registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.cli import places
from gateway.cli.output import show, show_one
from gateway.clock import SystemClock
from gateway.errors import UsageError
from gateway.provision import add_certified_device, today
from gateway.roster.devices import new_device

if TYPE_CHECKING:
    import argparse

    from gateway.roster.devices import Device


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``device``."""
    device = commands.add_parser("device", help="the device registry")
    actions = device.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="enter a device; prints its key, once, or its files")
    add.add_argument("id", metavar="ID")
    add.add_argument("--patient", metavar="P", help="whom it measures (default: the device's id)")
    proof = add.add_mutually_exclusive_group()
    proof.add_argument("--psk", metavar="HEX", help="its key, instead of a new one")
    proof.add_argument(
        "--cert", action="store_true", help="issue an X.509 certificate instead of a key"
    )
    add.add_argument(
        "--lenient-units", action="store_true", help="take '%%' above 1 as a percentage"
    )
    add.set_defaults(run=_add)
    actions.add_parser("list", help="all devices").set_defaults(run=_list)
    for name, run, text in (
        ("show", _show, "one device"),
        ("revoke", _revoke, "shut a device out; its associations end at once"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("id", metavar="ID")
        action.set_defaults(run=run)


def _add(args: argparse.Namespace) -> int:
    key = None
    if args.psk is not None:
        try:
            key = bytes.fromhex(args.psk)
        except ValueError:
            raise UsageError(f"--psk {args.psk!r}: not hexadecimal") from None
    wall = SystemClock().wall()
    device = new_device(
        args.id,
        patient=args.patient,
        key=key,
        lenient_units=args.lenient_units,
        today=today(wall),
    )
    loaded = places.loaded(args)
    registry = places.devices(loaded)
    shown = {"id": device.id, "patient": device.patient, "identity": device.id}
    if args.cert:
        # Whole paths: what is printed is a node file, wherever that will lie.
        made = add_certified_device(loaded.path.parent.resolve(), registry, device, wall=wall)
        paths = {"cert": str(made.certificate), "key": str(made.key), "ca": str(made.authority)}
        show_one(args, shown | paths)
        last = "Move the three files to the node: one is its private key."
    else:
        registry.add(device)
        show_one(args, {**shown, "key": device.key_text, "key_hex": device.key_hex})
        last = "The key is not shown again."
    if not args.json:
        print(f"\n{last}")
    return 0


def _row(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "patient": device.patient,
        "added": device.added,
        "revoked": device.revoked,
        "lenient_units": device.lenient_units,
    }


def _list(args: argparse.Namespace) -> int:
    rows = [_row(device) for device in places.devices(places.loaded(args)).all()]
    show(
        args,
        rows,
        empty="no devices; `ward-gateway device add ID` enters one",
        dates=("added", "revoked"),
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    device = places.devices(places.loaded(args)).get(args.id)
    if device is None:
        raise UsageError(f"no device {args.id!r}; `ward-gateway device list` shows them")
    row = _row(device)
    if device.fingerprint is not None:
        row |= {"certificate": device.fingerprint, "expires": device.expires}
    show_one(args, row)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    registry = places.devices(places.loaded(args))
    show_one(args, _row(registry.revoke(args.id, today=today(SystemClock().wall()))))
    return 0
