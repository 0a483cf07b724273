"""The service around a gateway: signals, the service manager, the watchdog, the console.

What is around is the same for a gateway alone and for a supervisor of several workers. A worker
has nothing of it but the signals: its supervisor speaks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from certs import files
from gateway.console import auth
from gateway.console.app import Console
from gateway.console.listening import is_loopback
from gateway.errors import ConfigError, GatewayError
from gateway.telemetry.notify import Notifier
from gateway.telemetry.pulse import Pulse
from gateway.workers import lifeline

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from gateway.clock import Clock
    from gateway.config.loading import Loaded

_log = logging.getLogger("service")

_YOUNG_OBJECTS: Final = 20_000
"""Some bursts' worth: their objects are gone when the collector comes to look at them."""
_SWITCH_S: Final = 0.0002
_STATUS_EVERY: Final = 20
"""Pulses between two lines for ``systemctl status``."""


class Serving(Protocol):
    """A gateway, or the supervisor of one."""

    ended: asyncio.Future[str]
    addresses: list[str]
    loaded: Loaded
    """The configuration in force, another one after a reload."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def reload(self) -> str:
        """Take over what has changed; what has and what waits, in words. Raises ConfigError."""
        ...

    async def ping(self) -> str:
        """Returns after a round trip through every outbox: why no record is stored all the same,
        empty if they are. Raises GatewayError."""
        ...

    def status(self) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Figures, see :func:`gateway.figures.status`."""
        ...


class Service:
    """``await run()``: until a signal, or until the gateway cannot go on."""

    def __init__(
        self,
        gateway: Serving,
        clock: Clock,
        *,
        on_ready: Callable[[str], None],
        line: socket.socket | None = None,
    ) -> None:
        """``on_ready``: hears where nodes find it. ``line``: of a worker, to its supervisor."""
        self._gateway = gateway
        self._clock = clock
        self._on_ready = on_ready
        self._line = line
        self._notifier = Notifier.of(os.environ if line is None else {})
        self._pulse = Pulse(gateway.ping, self._alive, clock)
        self._pulses = 0
        self._console: Console | None = None
        self._tls: ssl.SSLContext | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._stopping = False

    async def run(self) -> int:
        """The exit code."""
        # A watchdog ends a process that hangs with SIGABRT: the log then has where it did.
        faulthandler.enable()
        loop = asyncio.get_running_loop()
        told: asyncio.Future[str] = loop.create_future()

        def stop(name: str) -> None:
            if not told.done():
                told.set_result(name)
            elif self._line is None:
                os._exit(1)  # the second signal: at once
            # A worker hears it twice where a service manager tells every process.

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        if self._line is not None:
            lifeline.hold(self._line)
        try:
            await self._gateway.start()
            _settle()
            await self._show()
            await asyncio.wait([told, self._gateway.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop()
        return 0 if told.done() else 1

    async def _show(self) -> None:
        """It runs: say so to everybody who waits for that."""
        if self._line is not None:
            self._started.set()
            lifeline.ready(self._line)
            return
        await self._open_console()
        self._spawn(self._pulse.run(), "pulse")
        where = ", ".join(self._gateway.addresses)
        self._notifier.ready(f"listening on coaps {where}")
        self._started.set()
        self._on_ready(where)

    async def _stop(self) -> None:
        self._stopping = True
        self._notifier.stopping()
        try:
            await self._gateway.stop()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._console is not None:
                await self._console.stop()
            self._notifier.close()

    def _spawn(self, work: Any, name: str) -> None:  # noqa: ANN401 -- a coroutine
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and task.exception() is not None:
            # Without the pulse the watchdog ends what still works.
            _log.critical("%s ended because of a bug", task.get_name(), exc_info=task.exception())

    # -- console

    async def _open_console(self) -> None:
        """Nodes are served without it too: what is wrong is told, and no reason to end."""
        section = self._gateway.loaded.configuration.gateway
        places = self._gateway.loaded.configuration.console.listen
        try:
            if not all(is_loopback(place) for place in places):
                self._tls = auth.server_context(section.certificate, section.key, section.ca)
            self._console = Console(self, auth.token(section.state), self._clock, self._tls)
            await self._console.start(places)
        except ConfigError as error:
            _log.error("no console: %s; the gateway works without it", "; ".join(error.problems))
        else:
            _log.info("console on %s", ", ".join(self._console.urls))

    def _renew_console(self) -> None:
        """Who connects from now on sees the certificate that is in force. Raises ConfigError."""
        if self._tls is not None:
            section = self._gateway.loaded.configuration.gateway
            auth.show(self._tls, section.certificate, section.key)

    def trouble(self) -> list[str]:
        """Why no record would be acknowledged now, a line each."""
        if self._stopping:
            return ["the gateway is stopping"]
        if self._gateway.ended.done():
            return [self._gateway.ended.result()]
        trouble = self._pulse.trouble()
        return [trouble] if trouble else []

    async def figures(self) -> dict[str, Any]:
        """For ``/metrics``. Raises GatewayError."""
        certificate = files.load_certificate(self._gateway.loaded.configuration.gateway.certificate)
        status = self._gateway.status()
        return {
            **(await status if inspect.isawaitable(status) else status),
            "ready": not self.trouble(),
            "lag_s": self._pulse.lag_s,
            "certificate_ends": certificate.not_valid_after_utc.timestamp(),
        }

    # -- service manager

    def _alive(self) -> None:
        self._notifier.alive()
        self._pulses += 1
        if self._pulses % _STATUS_EVERY == 0 and not self._reloading.locked():
            self._spawn(self._tell_status(), "status")

    async def _tell_status(self) -> None:
        with contextlib.suppress(GatewayError):
            self._notifier.status(_summary(await self.figures()))

    def _hung_up(self) -> None:
        self._spawn(self._reload(), "reload")

    async def _reload(self) -> None:
        await self._started.wait()
        async with self._reloading:
            if self._stopping:
                return
            self._notifier.reloading()
            try:
                words = await self._gateway.reload()
                self._renew_console()
            except ConfigError as error:
                for problem in error.problems:
                    _log.error("reload refused, nothing has changed: %s", problem)
                words = f"reload refused: {'; '.join(error.problems)}"
            else:
                _log.info("%s", words)
            self._notifier.ready(words)


def _summary(figures: dict[str, Any]) -> str:
    lanes = figures["outbox"]["lanes"]
    waiting = ", ".join(f"{one['rows']} {lane}" for lane, one in lanes.items())
    failures = {one["failure"] for one in figures["delivery"].values() if one["failure"]}
    return (
        f"{figures['associations']} nodes connected; waiting: {waiting}; "
        f"cloud store: {', '.join(sorted(failures)) or 'good'}"
    )


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
