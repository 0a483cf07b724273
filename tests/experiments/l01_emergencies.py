"""L-01: emergencies beside a flood of routine messages, several times what the gateway can take.

Briefly, a whole gateway and the flood share one loop, so the flood comes as fast as its sockets are
drained, and the cloud store answers no routine batch before all emergencies have come. What is
judged holds on any host: how many routine messages are taken in between an emergency's datagram and
itself, that none is shed, and that none waits for routine's uploads. At length the gateway is a
process of its own and so is the flood, at 0.5, 1, 2 and 5 times what was just measured that it
takes; then times are judged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import subprocess
import sys
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

from gateway import app
from gateway.alarm_book import AlarmBook
from gateway.coap import fastlane
from gateway.ingress import driver
from gateway.ingress.backlog import Backlog
from gateway.lane import Lane
from gateway.roster.devices import Devices, new_device
from gateway.sinks.cloud import CloudSink
from tests.acceptance.ward import Device, Ward, a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.cloud_stub import Stub
from tests.experiments.rigs.inside import KEY, Inside
from tests.experiments.rigs.line import until
from tests.experiments.rigs.overload import Emergency, Flood, emergencies
from tests.unit.conftest import TODAY

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from collections.abc import Iterator, Sequence

    from gateway.intake import Judged
    from gateway.node.link import Link
    from tests.experiments.rigs.cloud_stub import Fault, Request

NODES = [f"e{number}" for number in range(10)]
FLOODERS = [f"f{number}" for number in range(20)]
_NO_LIMIT = {"WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": "0"}
_OVERTAKES = 512
"""Routine messages that may be taken in before an emergency that was sent before them: some turns
of the loop, and half of what waits in a full queue."""
_BRIEF_S = 20.0
_FAULT_S = 1.5


async def _never(stub: Stub, request: Request, writer: StreamWriter) -> None:
    await asyncio.Event().wait()


def _no_routine(lane: Lane, ids: Sequence[bytes]) -> Fault | None:
    """A stub's answer: routine batches have to wait."""
    return _never if lane is Lane.ROUTINE else None


class Places(AlarmBook):
    """Counts what is judged before each emergency."""

    total = 0
    sent: ClassVar[dict[str, int]] = {}
    """Node -> how many had been judged when it sent."""
    before: ClassVar[list[int]] = []

    def judged(self, judged: Judged, wall: float) -> None:
        Places.total += 1
        if judged.device in Places.sent:
            Places.before.append(Places.total - Places.sent.pop(judged.device))
        AlarmBook.judged(self, judged, wall)


def quantile(values: Sequence[float], share: float) -> float:
    """Of values in any order; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def not_delivered(found: Sequence[Emergency], count: int) -> list[str]:
    """What no emergency may meet."""
    refused = sum(one.answered is None for one in found)
    late = sum(one.answered is not None and one.uploaded is None for one in found)
    failures = [f"{refused} of {count} emergencies were not answered 2.04"] if refused else []
    failures += [f"{late} emergencies did not reach the cloud store"] if late else []
    return failures


async def _briefly(run: Run) -> Found:
    Places.before.clear()
    async with Inside(run.folder, [*NODES, *FLOODERS], _NO_LIMIT) as inside:
        inside.stub.answer = _no_routine
        links = [await inside.link(name) for name in NODES]
        found: list[Emergency] = []
        async with Flood(inside, FLOODERS) as flood:
            flooded = await until(lambda: flood.shed)
            for _ in range(run.runs // len(links)):
                Places.sent.update(dict.fromkeys(NODES, Places.total))
                within_s = _FAULT_S if run.fault else _BRIEF_S
                found += await emergencies(inside.stub, [links], every_s=0.0, within_s=within_s)
                run.progress(len(found))
                if found[-1].uploaded is None:
                    break
            shed = flood.shed
    failures = not_delivered(found, run.runs)
    if not flooded:
        failures.append(f"{flood.sent} routine messages are no flood: none was shed")
    overtaken = max(Places.before, default=0)
    if overtaken > _OVERTAKES:
        failures.append(f"{overtaken} routine messages went before an emergency")
    figures = {
        "emergencies": len(found),
        "most went before": overtaken,
        "uploaded after": f"{1000 * quantile([one.uploaded or 0 for one in found], 0.5):.0f} ms",
        "routine sent": flood.sent,
        "shed": shed,
    }
    return Found(failures + inside.stub.wrong[:1], figures)


# --- at length, each in a process of its own

LOADS = (0.5, 1.0, 2.0, 5.0)
_ASSOCIATIONS = 50
_WINDOW_S = 10.0
_MOST = 60_000
"""Requests of one association: fewer than Message IDs (RFC 7252 section 4.4)."""
_CAPACITY = 40_000.0
"""Requests a second to prepare for, where it is not known: one that takes more ends the window
early. Millions, kept ready, take a machine's memory, and show another capacity than its own."""
_PROGRAM = Path(__file__).parents[2] / "scripts" / "benchmarks" / "load.py"


@contextmanager
def _load(ward: Ward, boot: int, rate: float | None) -> Iterator[subprocess.Popen[str]]:
    """The benchmarks' generator, with its requests prepared; a line begins the window."""
    each = min(_MOST, int((rate or _CAPACITY) * _WINDOW_S / _ASSOCIATIONS) + 100)
    arguments = {
        "associations": _ASSOCIATIONS,
        "in_flight": 8,
        "in_turns": None,
        "rate": rate,
        "to_the_end": False,
        "first": 0,
        "boot": boot,
        "port": ward.port_base,
        "dtls": True,
        "key": KEY.decode(),
        "method": "POST",
        "path": ["v"],
        "each": each,
        "careful": False,
        "seconds": _WINDOW_S,
    }
    process = subprocess.Popen(
        [sys.executable, str(_PROGRAM), json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate("\n", timeout=60)


def _window(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a load found."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "end\n"
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


async def _at_length(run: Run, ward: Ward, stub: Stub) -> Found:
    boots = itertools.count(1)
    with _load(ward, next(boots), None) as process:
        capacity = float((await asyncio.to_thread(_window, process))["rate"])
    every_s = 1.0
    failures: list[str] = []
    figures: dict[str, object] = {"capacity": f"{capacity:,.0f}/s"}
    done = 0
    for load in LOADS:
        found: list[Emergency] = []
        links: list[Link] = [await ward.link(Device(name, KEY.decode())) for name in NODES]
        while len(found) < run.runs // len(LOADS):
            with _load(ward, next(boots), load * capacity) as process:
                window = asyncio.create_task(asyncio.to_thread(_window, process))
                rounds = [[links[n % len(links)]] for n in range(int(_WINDOW_S / every_s))]
                found += await emergencies(stub, rounds, every_s=every_s, within_s=_BRIEF_S)
                await window
            run.progress(done + len(found))
        await ward.close_links()
        done += len(found)
        failures += [f"at {load:g} x: {words}" for words in not_delivered(found, len(found))]
        times = [one.uploaded for one in found if one.uploaded is not None]
        for share, name, limit in ((0.99, "p99", 0.1), (0.999, "p99.9", 0.25), (1.0, "max", 1.0)):
            took = quantile(times, share)
            figures[f"{load:g} x {name}"] = f"{1000 * took:.0f} ms"
            if took > limit:
                failures.append(f"at {load:g} x: {name} {1000 * took:.0f} ms")
    return Found(failures, figures)


async def _in_processes(run: Run, ward: Ward) -> Found:
    stub = Stub(ward.folder)
    stub.port = ward.port_base + 3
    async with stub:
        await asyncio.to_thread(ward.start_gateway)
        return await _at_length(run, ward, stub)


def run_long(run: Run) -> Found:
    """Gateway, generator, and nodes with the cloud store: three processes."""
    with a_ward(run.folder) as ward:
        ward.environment |= _NO_LIMIT
        ward.make()
        names = [*NODES, *(f"bench-{number}" for number in range(_ASSOCIATIONS))]
        Devices(ward.state / "devices.json").add(
            *(
                new_device(name, patient=None, key=KEY, lenient_units=False, today=TODAY)
                for name in names
            )
        )
        return asyncio.run(_in_processes(run, ward))


# --- the experiment


class FirstCome(Backlog):
    """One queue in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._all: deque[tuple[Any, Any]] = deque()

    def __len__(self) -> int:
        return len(self._all)

    def put(self, association: Any, telemetry: Any) -> bool:
        """Whatever comes when it is full is shed."""
        if len(self._all) >= self.cap:
            return False
        self._all.append((association, telemetry))
        return True

    def take(self, count: int) -> list[Any]:
        """The first ones."""
        return [self._all.popleft() for _ in range(min(count, len(self._all)))]


_deliver = CloudSink.deliver


def _in_turn() -> Any:
    """One connection for both lanes: one request at a time."""
    turn = asyncio.Lock()

    async def deliver(self: Any, batch: Any) -> Any:
        async with turn:
            return await _deliver(self, batch)

    return deliver


def run(run: Run) -> Found:
    """See the module."""
    if run.long:
        return run_long(run)
    with ExitStack() as stack:
        stack.enter_context(patch.object(logging.getLogger("alarms"), "disabled", True))
        stack.enter_context(patch.object(app, "AlarmBook", Places))
        if run.fault in ("one-queue", "no-turns"):
            stack.enter_context(patch.object(driver, "Backlog", FirstCome))
        if run.fault == "one-queue":
            stack.enter_context(patch.object(fastlane, "DECLARED", ()))
        if run.fault == "one-connection":
            stack.enter_context(patch.object(CloudSink, "deliver", _in_turn()))
        return asyncio.run(_briefly(run))


register(
    Experiment(
        id="L-01",
        name="emergencies",
        target="emergencies in a flood of 0.5, 1, 2 and 5 times capacity: none shed, routine is; "
        "datagram to upload p99 100 ms, p99.9 250 ms, at most 1 s",
        unit="emergencies",
        short=100,
        long=10_000,
        run=run,
        faults={
            "one-queue": "emergencies and routine stand in one queue, which sheds whatever comes",
            "no-turns": "what is not declared waits in the order of arrival and is shed like any",
            "one-connection": "both lanes share one connection to the cloud store",
        },
        fault_runs=10,
    )
)
