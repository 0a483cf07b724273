"""The supervisor: starts the workers, hands on what it is told, and speaks for all of them.

It binds the sockets itself and gives each worker its own, so the kernel's spread of the peers does
not change while the workers start, nothing that arrives meanwhile is lost, and a port that somebody
else has is found out. When one worker ends all end, because the others refuse its patients: a new
start is the way on, and whoever started the gateway does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway import control, identity, reloading
from gateway.control import Control
from gateway.errors import ConfigError, UsageError
from gateway.ingress.udp import Sockets
from gateway.outbox.letters import Letters
from gateway.workers import lifeline, totals
from gateway.workers.lifeline import Pair
from gateway.workers.place import Place

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from gateway.config.loading import Loaded

_log = logging.getLogger("workers")

_READY_WITHIN_S: Final = 60.0
"""An outbox with a large backlog is counted first."""

_STOP_WITHIN_S: Final = 30.0
"""What a worker may take to drain; then it is killed, which loses nothing acknowledged."""

_EX_CONFIG: Final = 78


class Supervisor:
    """``await start()``, then ``await ended``, then ``await stop()``: like a gateway alone."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        """The configuration in force."""
        self._identity = identity.load(loaded)
        configuration = loaded.configuration
        self._state = configuration.gateway.state
        self._count = configuration.coap.workers
        self._workers: list[Process] = []
        self._lifelines: list[socket.socket] = []
        self._watches: list[asyncio.Task[None]] = []
        self._control: Control | None = None
        self._stopping = False
        self.addresses: list[str] = []
        """Where it listens, once started."""

    async def start(self) -> None:
        """Start all workers and wait until they are ready; call :meth:`stop` all the same.

        Raises ConfigError, or UsageError for a worker that did not start.
        """
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolved with the reason when the gateway cannot go on."""
        if await asyncio.to_thread(control.ask, self._state, "ping") is not None:
            raise UsageError(f"{self._state}: in use by a running gateway; stop it first")
        listening = Sockets(self.loaded.configuration.coap.listen)
        with contextlib.ExitStack() as ours:
            # A worker's sockets and links are open in that worker only.
            ours.callback(listening.close)
            self.addresses = listening.open()
            shares = listening.share(self._count)
            for one in (one for share in shares[1:] for one in share):
                ours.callback(one.close)
            links = _links(self._count)
            for one in (one for pairs in links for pair in pairs.values() for one in pair):
                ours.callback(one.close)
            for number in range(self._count):
                await self._spawn(number, shares[number], links[number])
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                for number in range(self._count):
                    await self._ready(number)
        except TimeoutError:
            raise UsageError(f"a worker was not ready within {_READY_WITHIN_S:.0f} s") from None
        self._watches = [
            asyncio.create_task(self._watch(number), name=f"worker {number}")
            for number in range(self._count)
        ]
        self._control = Control(
            self._state,
            {
                **{name: partial(self._hand_on, name) for name in Letters(dict).commands()},
                "outboxes": self.outboxes,
                "status": self.status,
                "alarms": self.alarms,
                "ping": self.ping,
            },
        )
        await self._control.start()

    async def _spawn(
        self, number: int, sockets: list[socket.socket], links: dict[int, Pair]
    ) -> None:
        ours, theirs = socket.socketpair()
        self._lifelines.append(ours)
        with theirs:
            lifeline.offer(ours, sockets, links)
            worker = await asyncio.create_subprocess_exec(
                # -P: what this process runs, not a package that lies where it was called.
                *(sys.executable, "-P", "-m", "gateway", "--config", str(self.loaded.path)),
                *("run", "--worker", f"{number}/{self._count}"),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                # Ctrl-C in a terminal is for the supervisor, which lets the workers drain.
                process_group=0,
            )
        ours.setblocking(False)
        self._workers.append(worker)

    async def _ready(self, number: int) -> None:
        with contextlib.suppress(ConnectionResetError):
            said = await asyncio.get_running_loop().sock_recv(self._lifelines[number], 64)
            if said == lifeline.READY:
                return
        code = await self._workers[number].wait()
        failure = f"worker {number} did not start ({_end(code)}); it says why above"
        raise ConfigError([failure]) if code == _EX_CONFIG else UsageError(failure)

    async def _watch(self, number: int) -> None:
        worker = self._workers[number]
        code = await worker.wait()
        if self._stopping or self.ended.done():
            return
        reason = f"worker {number} (process {worker.pid}) has ended: {_end(code)}"
        _log.critical("%s; the gateway ends, and is to be started again", reason)
        self.ended.set_result(reason)

    async def stop(self) -> None:
        """Let every worker finish what it has accepted, and end."""
        self._stopping = True
        if self._control is not None:
            await self._control.stop()
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._all_ended()
        except TimeoutError:
            _log.critical("workers that did not stop within %d s are killed", _STOP_WITHIN_S)
            self._signal(signal.SIGKILL)
            await self._all_ended()
        await asyncio.gather(*self._watches)
        for one in self._lifelines:
            one.close()

    async def reload(self) -> str:
        """Have every worker take over what the configuration says now, see
        :meth:`gateway.app.Gateway.reload`. None is asked before all of it is known to be good.

        Not before :meth:`start` has returned: a worker would end of the signal. Raises ConfigError.
        """
        fresh = reloading.read(self.loaded, self._identity)
        self.loaded, self._identity = fresh.loaded, fresh.identity
        self._signal(signal.SIGHUP)
        return fresh.words

    async def _all_ended(self) -> None:
        await asyncio.gather(*(worker.wait() for worker in self._workers))

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.send_signal(number)

    # -- for people

    async def status(self) -> dict[str, Any]:
        """Figures of everything, as of a gateway of one process, and of each worker."""
        return {**totals.of_workers(await self._ask("status")), "listen": self.addresses}

    async def alarms(self) -> list[dict[str, Any]]:
        """The alarms whose condition holds, oldest first."""
        found = [alarm for alarms in await self._ask("alarms") for alarm in alarms]
        return sorted(found, key=lambda alarm: str(alarm["raised"]))

    async def ping(self) -> str:
        """Answers when every worker does, with what the first in trouble says."""
        return next(filter(None, await self._ask("ping")), "")

    async def outboxes(self) -> list[int]:
        """Their numbers, those of former workers too."""
        return sorted(number for found in await self._ask("outboxes") for number in found)

    async def _hand_on(self, command: str, *, outbox: int, **arguments: Any) -> Any:  # noqa: ANN401
        """What the worker says that has this outbox: its own, or the first for what is left."""
        worker = Place(outbox if outbox < self._count else 0, self._count)
        return await asyncio.to_thread(
            control.ask, self._state, command, worker.control, outbox=outbox, **arguments
        )

    async def _ask(self, command: str) -> list[Any]:
        """What each worker answers, in order. Raises UsageError."""
        answers = await asyncio.gather(
            *(
                asyncio.to_thread(
                    control.ask, self._state, command, Place(number, self._count).control
                )
                for number in range(self._count)
            )
        )
        for number, answer in enumerate(answers):
            if answer is None:
                raise UsageError(f"worker {number} does not answer")
        return answers


def _links(count: int) -> list[dict[int, Pair]]:
    """For each worker, its ends of the streams to each other one."""
    links: list[dict[int, Pair]] = [{} for _ in range(count)]
    for one in range(count):
        for other in range(one + 1, count):
            routine, declared = socket.socketpair(), socket.socketpair()
            links[one][other] = Pair(routine[0], declared[0])
            links[other][one] = Pair(routine[1], declared[1])
    return links


def _end(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
