"""R-21: sixty-four descriptors, clients that hold theirs, a cloud store that never answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

from gateway import control
from gateway.errors import UsageError
from gateway.lane import Lane
from tests.acceptance.ward import a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.bracelets import Bracelets, lost_or_doubled, memory
from tests.experiments.rigs.cloud_stub import Stub
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward

_LIMIT = 64
_BRACELETS = 4
_RESERVE = 8
"""Descriptors that slow clients must leave."""
_ROUNDS = {False: 5, True: 400}
"""Of traffic, three a second, while no descriptor is left: longer than a loop that fails waits."""
_ROUND_S = 0.3
_WITHIN_S = 60.0
_FAULT_S = 1.0


def _run(run: Run) -> Found:
    with a_ward(run.folder) as ward, contextlib.ExitStack() as stack:
        ward.make()
        ward.planted = run.fault and run.fault.replace("-", "_")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return asyncio.run(_Want(run, ward, stack).carry_out())


class _Want:
    """Of descriptors, at a gateway of a process of its own."""

    def __init__(self, run: Run, ward: Ward, stack: contextlib.ExitStack) -> None:
        self._run = run
        self._ward = ward
        self._stack = stack
        self._within_s = _FAULT_S if run.fault else _WITHIN_S
        self._bracelets = Bracelets(ward, _BRACELETS)
        self._console = ward.port_base + 2
        self._failures: list[str] = []

    def _limit(self, count: int) -> None:
        assert self._ward.gateway is not None
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(self._ward.gateway.pid, resource.RLIMIT_NOFILE, (count, most))

    def _open(self) -> int:
        assert self._ward.gateway is not None
        return memory(self._ward.gateway.pid).descriptors

    async def carry_out(self) -> Found:
        ward, began = self._ward, time.monotonic()
        stub = Stub(ward.folder)
        stub.port, stub.keeps = ward.port_base + 3, True
        silent = self._dead_cloud(stub.port)
        ward.begin_gateway()
        self._limit(_LIMIT)
        ward.await_gateway()
        figures: dict[str, object] = {"at start": self._open()}
        try:
            await self._traffic("at the start")
            clients = self._slow_clients(self._run.runs)
            await self._traffic("beside slow clients")
            figures["beside slow clients"] = self._open()
            if self._open() > _LIMIT - _RESERVE:
                self._failures.append(f"slow clients have {self._open()} of {_LIMIT} descriptors")
            if not await self._answers():
                self._failures.append("slow clients keep others from asking")
            for one in clients:
                one.close()
            await self._exhausted()
            self._limit(_LIMIT)
            silent.close()
            if not self._failures and not await self._answers():
                self._failures.append("with descriptors again, nobody is answered")
            if not self._failures and "no command can be taken now" not in ward.log("gateway"):
                self._failures.append("nobody is told that there are no descriptors")
            if not self._failures:
                await self._recovers(stub)
                figures["afterwards"] = self._open()
        finally:
            await self._bracelets.close()
            await stub.close()
        self._failures += self._flooded(time.monotonic() - began) + stub.wrong[:1]
        return Found(self._failures, {**figures, "acknowledged": len(self._bracelets.acknowledged)})

    def _dead_cloud(self, port: int) -> socket.socket:
        """It takes connections, in the kernel, and says nothing."""
        one = self._stack.enter_context(socket.socket())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        one.listen(1024)
        return one

    def _slow_clients(self, count: int) -> list[socket.socket]:
        """They say half of what they want, one half of them to the control socket, the other to
        the console. Those that the kernel has no place for are away again."""
        clients = []
        folder = os.open(self._ward.state, os.O_PATH)
        control_socket = f"/proc/self/fd/{folder}/{control.NAME}"
        for number in range(count):
            family = socket.AF_INET if number % 2 else socket.AF_UNIX
            one = self._stack.enter_context(socket.socket(family))
            one.setblocking(False)
            with contextlib.suppress(OSError):
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", self._console) if number % 2 else control_socket)
                one.send(b"GET /heal" if number % 2 else b'{"comm')
            clients.append(one)
        os.close(folder)
        return clients

    async def _traffic(self, when: str) -> None:
        """New associations, and packs of both lanes over them."""
        try:
            async with asyncio.timeout(self._within_s):
                await self._bracelets.connect()
                await self._bracelets.send(_BRACELETS, Lane.ROUTINE)
                await self._bracelets.send(2, Lane.EMERGENCY)
        except TimeoutError:
            self._failures.append(f"nothing is acknowledged {when}")

    async def _answers(self) -> bool:
        deadline = time.monotonic() + self._within_s
        while time.monotonic() < deadline:
            with contextlib.suppress(UsageError):
                if await asyncio.to_thread(control.ask, self._ward.state, "ping") is not None:
                    return True
            await asyncio.sleep(0.05)
        return False

    async def _exhausted(self) -> None:
        """Every descriptor that would be opened from now on fails."""
        self._limit(0)
        for _ in range(3 if self._run.fault else _ROUNDS[self._run.long]):
            clients = self._slow_clients(2)
            await self._traffic("without descriptors")
            for one in clients:
                one.close()
            if self._failures:
                break
            await asyncio.sleep(_ROUND_S)
            self._run.progress(0)

    async def _is_healthy(self) -> bool:
        """Whether the console says so."""
        deadline = time.monotonic() + self._within_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._console)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                line = await reader.readuntil(b"\r\n")
                writer.close()
                if b" 200 " in line:
                    return True
            await asyncio.sleep(0.05)
        return False

    async def _recovers(self, stub: Stub) -> None:
        if not await self._is_healthy():
            self._failures.append("with descriptors again, the console does not answer")
        await self._traffic("afterwards")
        await stub.open()
        sent = len(self._bracelets.acknowledged)
        if not await until(lambda: len(stub.order) >= sent, self._within_s):
            self._failures.append(f"{len(stub.order)} of {sent} records are delivered afterwards")
        self._failures += lost_or_doubled(self._bracelets.acknowledged, self._ward, stub)

    def _flooded(self, seconds: float) -> list[str]:
        """A complaint that the log has more often than once a minute; patients' alarms are none."""
        lines = [
            line.partition("level=")[2] or line for line in self._ward.log("gateway").splitlines()
        ]
        said = Counter(
            re.sub(r"\d+", "N", line)
            for line in lines
            if not line.startswith("info") and "room=alarms" not in line
        )
        most = 1 + int(seconds / 60)
        return [f"the log says {n} times: {words}" for words, n in said.items() if n > most][:1]


register(
    Experiment(
        id="R-21",
        name="descriptors",
        target="64 descriptors, clients that hold theirs, a cloud store that takes connections and "
        "says nothing, then no descriptor at all: associations and acknowledgements go on, nobody "
        "keeps others from asking, a line of the log a minute, everything delivered afterwards "
        "without a restart",
        unit="slow clients",
        short=100,
        long=1000,
        run=_run,
        faults={
            "accept-once": "the loop that accepts ends with the first failure",
            "descriptor-a-request": "a file is opened for what is stored",
        },
        fault_runs=50,
    )
)
