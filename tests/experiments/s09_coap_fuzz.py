"""Mutated CoAP messages, through both lanes of ingress.

Most of them in this process: a server with its associations, driver, lanes, intake, store and
writer, so that a message costs some hundred microseconds and each can be timed. A hundredth of them
through the socket of a running gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psutil

from gateway.coap import message as wire
from gateway.coap import options
from gateway.coap.numbers import Type
from gateway.errors import PeerError
from gateway.lane import Lane
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.mutation import mutated
from tests.unit.conftest import Desk
from tests.unit.ingress.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.experiments.rigs.hostile import Faults

_PER_SOCKET = 10
"""One message in so many goes through a socket too: 10^7 and 10^6."""
_AT_ONCE = 16
_TURNS = 6
"""Of the event loop: what a message's rendering takes."""
_SWEEP = 500
_APART_S = 0.05
"""Virtual seconds between two messages: below a device's rate."""
_STALL_MS = 10.0
_GENEROUS_MS = 1000.0
_FLAT_KIB = 16 << 10


class _Errors(logging.Handler):
    """Everything that is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def _listening() -> Any:
    errors = _Errors()
    root = logging.getLogger()
    root.addHandler(errors)
    try:
        yield errors
    finally:
        root.removeHandler(errors)


def _acknowledged(heard: Iterable[bytes]) -> list[bytes]:
    """What a node that knows its manners says to these: nothing must wait for it."""
    replies = []
    for one in heard:
        with contextlib.suppress(PeerError):
            answer = wire.decode_untrusted(one)
            if answer.type is Type.CON:
                replies.append(wire.empty_ack(answer.mid))
    return replies


class _Inside:
    """The inside of a gateway, one node, and what was worst."""

    def __init__(self, run: Run) -> None:
        self._run = run
        (run.folder / "desk").mkdir()
        self._bench = Bench(Desk(run.folder / "desk"), run.folder)
        self._process = psutil.Process()
        self.worst_ms = 0.0
        self.stalls = 0
        self.failures: list[str] = []
        self.early_kib = self.late_kib = 0

    async def attack(self) -> None:
        loop = asyncio.get_running_loop()
        uncaught: list[str] = []
        loop.set_exception_handler(lambda _, context: uncaught.append(str(context["message"])))
        await self._bench.start()
        try:
            await self._feed(random.Random(self._run.seed))
        finally:
            counts = dict(self._bench.driver.counts), dict(self._bench.lane.counts)
            await self._bench.stop()
        self.failures += [f"uncaught: {one}" for one in uncaught[:5]]
        if counts[0].get("bug", 0) or counts[1].get("bugs", 0):
            self.failures.append(f"bugs were counted: {counts}")

    async def _feed(self, chance: random.Random) -> None:
        bench, runs = self._bench, self._run.runs
        node = bench.node()
        limit = _STALL_MS if self._run.long else _GENEROUS_MS
        for done in range(runs):
            datagram = mutated(chance, done & 0xFFFF)
            bench.clock.now += _APART_S
            began = time.thread_time()
            node.sends(datagram)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            took = 1000 * (time.thread_time() - began)
            self.worst_ms = max(self.worst_ms, took)
            if took > limit:
                self.stalls += 1
                self.failures.append(f"{datagram.hex()}: {took:.0f} ms")
            replies = _acknowledged(node.heard)
            node.heard.clear()
            if replies:
                node.sends(*replies)
            if done % _SWEEP == 0:
                await self._tidy(bench)
            if done == runs // 5:
                self.early_kib = self._process.memory_info().rss >> 10
            self._run.progress(done + 1)
        self.late_kib = self._process.memory_info().rss >> 10

    async def _tidy(self, bench: Bench) -> None:
        """What timers and a cloud store would do; and the rig's own memory."""
        bench.driver.sweep(bench.clock.now)
        for lane in Lane:
            while leased := await bench.writer.lease(lane, 1000, 1 << 20, now=bench.clock.now):
                bench.writer.settle(lane, done=[one.number for one in leased])
        bench.admitted.clear()
        bench.desk.envelopes.clear()


def _through_sockets(run: Run, count: int) -> tuple[list[str], int]:
    """What went wrong, and the KiB by which the gateway has grown since a fifth was sent."""
    failures: list[str] = []
    chance = random.Random(run.seed + 1)
    early = 0
    with attacked(run, {}) as target:
        before = target.counts()
        peer = target.peer()
        for start in range(0, count, _AT_ONCE):
            for number in range(start, start + _AT_ONCE):
                peer.say(mutated(chance, number & 0x7FFF))
            for reply in _acknowledged(peer.hears()):
                peer.say(reply)
            if start <= count // 5:
                early = target.memory_kib()
        target.peer().is_well()
        counts = target.counts()
        grown = target.memory_kib() - early
        failures += [
            f"the gateway counted {counts[name]} as {name}"
            for name in ("bug", "other.bugs")
            if counts.get(name, 0) > before.get(name, 0)
        ]
        if target.ward is not None and "Traceback" in target.ward.log("gateway"):
            failures.append("a traceback in the gateway's log")
    return failures, grown


def _run(run: Run) -> Found:
    inside = _Inside(run)
    planted = _FAULTS[run.fault][1]() if run.fault else contextlib.nullcontext()
    with planted, _listening() as errors:
        asyncio.run(inside.attack())
    failures = inside.failures + [f"an error in the log: {one}" for one in errors.lines[:5]]
    figures: dict[str, object] = {
        "worst ms": round(inside.worst_ms, 1),
        "stalls": inside.stalls,
        "RSS grew KiB": inside.late_kib - inside.early_kib,
    }
    if run.long and inside.late_kib - inside.early_kib > _FLAT_KIB:
        failures.append(f"memory grew by {inside.late_kib - inside.early_kib} KiB")
    if run.fault is None:
        more, grown = _through_sockets(run, run.runs // _PER_SOCKET)
        failures += more
        figures |= {"through a socket": run.runs // _PER_SOCKET, "gateway grew KiB": grown}
        if grown > _FLAT_KIB:
            failures.append(f"the gateway's memory grew by {grown} KiB")
    return Found(failures, figures)


_FAULTS: Faults = {
    "not-text": (
        "nobody looks whether an option's text is UTF-8, and aiocoap raises UnicodeDecodeError",
        lambda: patch.object(options, "_check_text_untrusted", lambda value: None),
    ),
}

register(
    Experiment(
        id="S-09",
        name="coap-fuzz",
        target=(
            "no uncaught exception, no stall > 10 ms (long), memory flat; a tenth of the messages "
            "through the socket of a running gateway; both lanes"
        ),
        unit="messages",
        short=10_000,
        long=10_000_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=500,
    )
)
