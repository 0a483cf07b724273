"""``send`` and ``simulate``: the node's side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2

from certs import files
from gateway.cli import places
from gateway.cli.output import show_one
from gateway.clock import SystemClock
from gateway.coap.numbers import CONTENT_FORMATS, Code, ContentFormat, Option, code_class, dotted
from gateway.dtls.credentials import Identity
from gateway.errors import ConfigError, UsageError
from gateway.node import recording
from gateway.node.fleet import Fleet, Node
from gateway.node.link import Link, LinkError, parse_uri
from gateway.provision import today
from gateway.roster.devices import new_device

if TYPE_CHECKING:
    import argparse

    from gateway.coap.message import Message
    from gateway.node.fleet import Report
    from gateway.node.link import Target

_METHODS: Final = {code.name.lower(): code for code in Code if 0 < code < 32}
_CBOR: Final = (ContentFormat.CBOR, ContentFormat.SENML_CBOR)
_PROGRESS_S: Final = 1.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``send`` and ``simulate``."""
    send = commands.add_parser("send", help="one CoAP request over DTLS")
    send.add_argument("uri", metavar="URI", help="coaps://HOST[:PORT]/PATH")
    send.add_argument("payload", nargs="?", metavar="PAYLOAD", help="text, or @FILE")
    send.add_argument("--psk-identity", required=True, metavar="I")
    send.add_argument("--psk-key", required=True, metavar="K", help="text, or hex with 0x")
    send.add_argument("--method", choices=list(_METHODS), help="default: post with a payload")
    send.add_argument(
        "--content-format", type=int, metavar="N", help="default: 110 (SenML JSON) with a payload"
    )
    send.add_argument("--accept", type=int, metavar="N")
    send.set_defaults(run=_send)
    simulate = commands.add_parser("simulate", help="bracelets that replay recorded heartbeats")
    simulate.add_argument("--gateway", required=True, metavar="URI", help="coaps://HOST[:PORT]")
    simulate.add_argument("--nodes", type=int, default=8, metavar="N", help="default: 8")
    simulate.add_argument(
        "--node-file",
        type=Path,
        metavar="FILE",
        help="what `device add --json` printed, one device after the other; "
        "default: devices sim-1 to sim-N of this ward, entered if missing",
    )
    simulate.add_argument("--speed", type=float, default=1.0, metavar="X", help="times real time")
    simulate.add_argument("--loss", type=float, default=0.0, metavar="P", help="0 to 1, each way")
    simulate.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="default: until Ctrl-C"
    )
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument(
        "--journal", type=Path, metavar="FILE", help="a JSON line for each acknowledged pack"
    )
    simulate.set_defaults(run=_simulate)


def _send(args: argparse.Namespace) -> int:
    target = parse_uri(args.uri)
    payload = b""
    if args.payload is not None:
        payload = _payload(args.payload)
    method = args.method or ("get" if args.payload is None else "post")
    content_format = args.content_format
    if content_format is None and args.payload is not None:
        content_format = int(ContentFormat.SENML_JSON)
    key = _key(args.psk_key)

    async def exchange() -> Message:
        try:
            link = await Link.open(target.host, target.port, identity=args.psk_identity, key=key)
        except LinkError as error:
            raise LinkError(_unopened(str(error), target)) from None
        try:
            return await link.request(
                _METHODS[method],
                target.path,
                payload=payload,
                content_format=content_format,
                query=target.query,
                accept=args.accept,
            )
        finally:
            link.close()

    answer = asyncio.run(exchange())
    shown = {
        "code": dotted(answer.code),
        "name": _name(answer.code),
        "content_format": CONTENT_FORMATS.get(answer.uint(Option.CONTENT_FORMAT) or 0)
        if answer.value(Option.CONTENT_FORMAT) is not None
        else None,
        "payload": _readable(answer),
    }
    if args.json:
        show_one(args, shown)
    else:
        print(f"{shown['code']} {shown['name']}")
        if shown["payload"]:
            print(shown["payload"])
    return 0 if code_class(answer.code) == 2 else 1


def _unopened(reason: str, target: Target) -> str:
    """Where, and what to look at first."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    where = f"{host}:{target.port}"
    if "alert decrypt error" in reason:
        return f"{where} does not know this identity with this key ({reason})"
    if "Connection refused" in reason:
        return f"{where}: no gateway listens there ({reason})"
    return reason if reason.startswith(f"{target.host}:") else f"{where}: {reason}"


def _payload(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return sys.stdin.buffer.read() if text == "@-" else Path(text[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"{text[1:]}: {error.strerror}") from None


def _key(text: str) -> bytes:
    if not text.startswith("0x"):
        return text.encode()
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise UsageError(f"--psk-key {text!r}: not hexadecimal") from None


def _name(code: int) -> str:
    try:
        return Code(code).name.replace("_", " ").title()
    except ValueError:
        return "?"


def _readable(answer: Message) -> str:
    if answer.uint(Option.CONTENT_FORMAT) in _CBOR and answer.payload:
        with contextlib.suppress(cbor2.CBORDecodeError):
            return repr(cbor2.loads(answer.payload))
    try:
        return answer.payload.decode()
    except UnicodeDecodeError:
        return answer.payload.hex()


def _simulate(args: argparse.Namespace) -> int:
    target = parse_uri(args.gateway)
    if args.nodes < 1 or args.speed <= 0 or not 0 <= args.loss < 1:
        raise UsageError("--nodes must be 1 or more, --speed above 0, --loss from 0 to below 1")
    nodes = _from_file(args.node_file) if args.node_file else _from_ward(args)
    with contextlib.ExitStack() as stack:
        try:
            journal = stack.enter_context(args.journal.open("a")) if args.journal else None
        except OSError as error:
            raise UsageError(f"--journal {args.journal}: {error.strerror}") from None
        fleet = Fleet(
            target,
            nodes,
            recording.load_all(),
            speed=args.speed,
            loss=args.loss,
            seed=args.seed,
            journal=journal,
        )
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watched(fleet, args))
    report = summary(fleet.report)
    show_one(args, report)
    return 0 if report["unacknowledged"] == 0 else 1


async def _watched(fleet: Fleet, args: argparse.Namespace) -> None:
    work = asyncio.create_task(fleet.run(wall=SystemClock().wall(), duration_s=args.seconds))
    began = time.monotonic()
    live = sys.stderr.isatty() and not args.json
    while not (await asyncio.wait([work], timeout=_PROGRESS_S))[0]:
        if live:
            done = fleet.report
            print(
                f"\r{time.monotonic() - began:5.0f} s  {done.sent} sent  "
                f"{done.acknowledged} acknowledged  {done.handshakes} handshakes ",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if live:
        print(file=sys.stderr)
    await work


def summary(report: Report) -> dict[str, Any]:
    """The figures of a fleet, for people."""
    latencies = sorted(report.latencies_ms) or [0.0]
    return {
        "sent": report.sent,
        "acknowledged": report.acknowledged,
        "unacknowledged": report.sent - report.acknowledged,
        "handshakes": report.handshakes,
        "ack_ms_median": round(latencies[len(latencies) // 2], 1),
        "ack_ms_p99": round(latencies[int(len(latencies) * 0.99)], 1),
        "other_answers": dict(report.answers),
        "failures": dict(report.failures),
    }


def _from_file(path: Path) -> list[Node]:
    """One object after the other, in a line each or not, as ``device add --json`` prints them."""
    nodes = []
    try:
        rest = path.read_text().lstrip()
        while rest:
            one, end = json.JSONDecoder().raw_decode(rest)
            nodes.append(Node(one["id"], _proof(path.parent, one)))
            rest = rest[end:].lstrip()
    except OSError as error:
        raise UsageError(f"{path}: not a node file ({error.strerror})") from None
    except (KeyError, TypeError):
        raise UsageError(
            f"{path}: not a node file (each device has id, and key_hex or cert)"
        ) from None
    except ConfigError as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(f"{path}: not a node file ({error})") from None
    if not nodes:
        raise UsageError(f"{path}: not a node file (no devices in it)")
    return nodes


def _proof(folder: Path, device: dict[str, str]) -> bytes | Identity:
    """Paths that are relative start at the node file."""
    if "cert" not in device:
        return bytes.fromhex(device["key_hex"])
    certificate, key = files.load_pair(folder / device["cert"], folder / device["key"])
    return Identity(certificate, key, files.load_certificate(folder / device["ca"]))


def _from_ward(args: argparse.Namespace) -> list[Node]:
    devices = places.devices(places.loaded(args))
    nodes, missing = [], []
    for number in range(1, args.nodes + 1):
        name = f"sim-{number}"
        device = devices.get(name)
        if device is not None and device.fingerprint is not None and device.revoked is None:
            raise UsageError(f"device {name!r} has a certificate: name its files by --node-file")
        if device is None or device.revoked is not None:
            device = new_device(
                name,
                patient=f"sim-patient-{number}",
                key=None,
                lenient_units=False,
                today=today(SystemClock().wall()),
            )
            missing.append(device)
        nodes.append(Node(device.id, device.key))
    devices.add(*missing)
    return nodes
