"""``run`` and ``check``: the gateway itself, and everything that could keep it from running."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from certs import files
from gateway import control
from gateway.app import Gateway
from gateway.cli import places
from gateway.cli.output import show
from gateway.clock import SystemClock, plausible
from gateway.dtls import selftest
from gateway.errors import GatewayError, UsageError
from gateway.ingress.udp import Sockets
from gateway.lane import Lane
from gateway.provision import today
from gateway.roster import secret
from gateway.telemetry import log
from gateway.telemetry.build import build
from gateway.uplink import cloud_sink
from gateway.workers import lifeline, moving
from gateway.workers.supervisor import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from gateway.config.loading import Loaded

_EXPIRES_SOON_DAYS = 30
_DISK_FREE = 256 << 20
_YOUNG_OBJECTS = 20_000
"""Some bursts' worth: their objects are gone when the collector comes to look at them."""
_SWITCH_S = 0.0002


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``run`` and ``check``."""
    run = commands.add_parser("run", help="the gateway, until SIGTERM")
    run.add_argument("--worker", help=argparse.SUPPRESS)
    run.set_defaults(run=_run)
    commands.add_parser("check", help="is everything there that `run` needs?").set_defaults(
        run=_check
    )


def _run(args: argparse.Namespace) -> int:
    loaded, clock = places.loaded(args), SystemClock()
    if args.worker is not None:
        worker, line = lifeline.join(args.worker)
        log.configure(worker=worker.place.number)
        return asyncio.run(_serve(Gateway(loaded, clock, worker), line))
    log.configure()
    # Also where there are workers: what is wrong is told here, once.
    gateway = Gateway(loaded, clock)
    section, workers = loaded.configuration.gateway, loaded.configuration.coap.workers
    moving.settle(section.state, workers, secret.load(section.state), clock.wall())
    return asyncio.run(_serve(gateway if workers == 1 else Supervisor(loaded)))


async def _serve(gateway: Gateway | Supervisor, line: socket.socket | None = None) -> int:
    """Until a signal, or until it cannot go on. ``line``: of a worker, to its supervisor."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def stop(name: str) -> None:
        if not told.done():
            told.set_result(name)
        elif line is None:
            os._exit(1)  # the second signal: at once
        # A worker hears it twice where a service manager tells every process.

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    if line is not None:
        lifeline.hold(line)
    try:
        await gateway.start()
        _settle()
        if line is not None:
            lifeline.ready(line)
        else:
            print(f"ward gateway listening on coaps {', '.join(gateway.addresses)}", flush=True)
        await asyncio.wait([told, gateway.ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await gateway.stop()
    return 0 if told.done() else 1


def _settle() -> None:
    """Set the interpreter up for a long run under load.

    What is loaded by now stays, and most objects of a burst end with it: the collector of cycles
    is to look at neither (2 us a record). And the thread that writes to the disk asks for the
    interpreter some ten times a transaction: with Python's 5 ms for each, an emergency under a
    flood of twice the capacity took 336 ms to its upload (median, at worst 2.2 s), now 86 (103).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    sys.setswitchinterval(_SWITCH_S)


def _check(args: argparse.Namespace) -> int:
    loaded = places.loaded(args)
    checks: list[tuple[str, Callable[[Loaded], str]]] = [
        ("configuration", lambda one: str(one.path)),
        ("build", _build),
        ("clock", _clock),
        ("certificate", _certificate),
        ("keys and rosters", _parts),
        ("devices", _devices),
        ("disk", _disk),
        ("ports", _ports),
        ("DTLS suites", lambda _: ", ".join(selftest.all_suites(os.urandom))),
        ("cloud store", _cloud),
        ("recipients", _recipients),
    ]
    rows: list[dict[str, Any]] = []
    for name, check in checks:
        try:
            found, detail = "ok", check(loaded)
        except _Warn as warning:
            found, detail = "warning", str(warning)
        except GatewayError as error:
            found, detail = "failed", str(error)
        rows.append({"check": name, "result": found, "detail": detail})
    show(args, rows, empty="", wrapped="detail")
    return 1 if any(row["result"] == "failed" for row in rows) else 0


class _Warn(Exception):
    """Worth knowing, and no reason not to run."""


def _build(loaded: Loaded) -> str:
    if build() == "compiled":
        return "the hot path is compiled"
    return "the hot path is interpreted; a wheel that is built beside a C compiler is faster"


def _clock(loaded: Loaded) -> str:
    clock = SystemClock()
    now = datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if not clock.synchronised():
        if not plausible(clock.wall()):
            raise _Warn(f"{now} is in the past: set the time (timedatectl)")
        raise _Warn(f"{now}, and nobody keeps it right: let chrony or systemd-timesyncd run")
    return now


def _certificate(loaded: Loaded) -> str:
    path = loaded.configuration.gateway.certificate
    expires = files.load_certificate(path).not_valid_after_utc
    days = (expires - datetime.now(UTC)).days
    if days < 0:
        raise UsageError(f"{path} expired on {expires:%Y-%m-%d}")
    if days < _EXPIRES_SOON_DAYS:
        raise _Warn(f"{path} expires on {expires:%Y-%m-%d}, in {days} days")
    return f"{path}, until {expires:%Y-%m-%d}"


def _parts(loaded: Loaded) -> str:
    Gateway(loaded, SystemClock())
    devices = [one for one in places.devices(loaded).all() if one.revoked is None]
    return f"{len(devices)} devices, {len(places.recipients(loaded).all())} recipients"


def _devices(loaded: Loaded) -> str:
    """A node whose certificate ends is shut out, and says so to nobody."""
    soon = today(SystemClock().wall() + _EXPIRES_SOON_DAYS * 86_400)
    ending = places.devices(loaded).expiring(soon)
    if ending:
        names = ", ".join(f"{device} ({when[:10]})" for when, device in ending)
        raise _Warn(f"certificates that end soon or have ended: {names}; revoke and add them again")
    return "no certificate ends soon"


def _disk(loaded: Loaded) -> str:
    state = loaded.configuration.gateway.state
    if not os.access(state, os.W_OK | os.X_OK):
        raise UsageError(f"{state}: not writable by this user")
    status = os.statvfs(state)
    free = status.f_bavail * status.f_frsize
    wanted = loaded.configuration.outbox.max_bytes + _DISK_FREE
    text = f"{free >> 20} MiB free at {state}"
    if free < wanted:
        raise _Warn(f"{text}, fewer than [outbox] max_bytes and a margin ({wanted >> 20} MiB)")
    return text


def _ports(loaded: Loaded) -> str:
    running = control.ask(loaded.configuration.gateway.state, "status")
    if running is not None:
        return f"the running gateway listens on {', '.join(running['listen'])}"
    sockets = Sockets(loaded.configuration.coap.listen)
    try:
        return ", ".join(sockets.open())
    finally:
        sockets.close()


def _cloud(loaded: Loaded) -> str:
    async def ask() -> None:
        sink = cloud_sink(loaded, Lane.EMERGENCY)
        await sink.open()
        try:
            await sink.check()
        finally:
            await sink.close()

    asyncio.run(ask())
    return loaded.configuration.cloud.url


def _recipients(loaded: Loaded) -> str:
    folder = loaded.path.parent / "recipients"
    here = sorted(path.parent.name for path in folder.glob("*/seal.key"))
    if here:
        raise _Warn(
            f"private keys of {', '.join(here)} lie in {folder}: move them to their readers"
        )
    return "no private keys of readers here"
