"""``run`` and ``check``: the gateway itself, and everything that could keep it from running."""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from certs import files
from gateway import control
from gateway.app import Gateway
from gateway.cli import places
from gateway.cli.output import show
from gateway.clock import SystemClock, plausible
from gateway.console import auth
from gateway.console.listening import bound, is_loopback
from gateway.dtls import selftest
from gateway.errors import DeliveryError, GatewayError, UsageError
from gateway.ingress.udp import Sockets
from gateway.lane import Lane
from gateway.provision import today
from gateway.roster import secret
from gateway.service import Service
from gateway.telemetry import log
from gateway.telemetry.build import build
from gateway.uplink import cloud_sink
from gateway.workers import lifeline, moving
from gateway.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config.loading import Loaded

_EXPIRES_SOON_DAYS = 30
_DISK_FREE = 256 << 20


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
        mine = Gateway(loaded, clock, worker)
        return asyncio.run(Service(mine, clock, on_ready=_say, line=line).run())
    log.configure()
    # Also where there are workers: what is wrong is told here, once.
    gateway = Gateway(loaded, clock)
    section, workers = loaded.configuration.gateway, loaded.configuration.coap.workers
    moving.settle(section.state, workers, secret.load(section.state), clock.wall())
    serving = gateway if workers == 1 else Supervisor(loaded)
    return asyncio.run(Service(serving, clock, on_ready=_say).run())


def _say(addresses: str) -> None:
    print(f"ward gateway listening on coaps {addresses}", flush=True)


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
        ("console", _console),
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


def _console(loaded: Loaded) -> str:
    """Without it the gateway runs all the same, and nobody sees how."""
    section, places = loaded.configuration.gateway, loaded.configuration.console.listen
    beyond = [place for place in places if not is_loopback(place)]
    if beyond:
        auth.server_context(section.certificate, section.key, section.ca)
    if control.ask(section.state, "ping") is None:
        for place in places:
            try:
                bound(place).close()
            except OSError as error:
                where = f"{place}: {error.strerror or error}"
                raise _Warn(f"{where}; name another port in [console] listen") from None
    how = f"https on {', '.join(beyond)}" if beyond else "http on this machine only"
    return f"{', '.join(places)}: {how}; the token is in {section.state / auth.NAME}"


def _cloud(loaded: Loaded) -> str:
    """Away is not wrong: records wait on the disk until it is back."""

    async def ask() -> None:
        sink = cloud_sink(loaded, Lane.EMERGENCY)
        await sink.open()
        try:
            await sink.check()
        finally:
            await sink.close()

    try:
        asyncio.run(ask())
    except DeliveryError as error:
        raise _Warn(f"{error}; `run` works all the same, records wait on the disk") from None
    return loaded.configuration.cloud.url


def _recipients(loaded: Loaded) -> str:
    folder = loaded.path.parent / "recipients"
    here = sorted(path.parent.name for path in folder.glob("*/seal.key"))
    if here:
        raise _Warn(
            f"private keys of {', '.join(here)} lie in {folder}: move them to their readers"
        )
    return "no private keys of readers here"
