"""L-04: the cloud store is dead while a node reports an emergency.

It dies in three ways: nobody listens; it takes requests and never answers; it answers its health
and fails every alarm. A whole gateway, real nodes and a stub of a cloud store. The gateway is
stopped and started while the alarm holds: neither that, nor good health, nor time ends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gateway.alarm_book import AlarmBook
from gateway.delivery import undelivered
from gateway.delivery.undelivered import Undelivered
from gateway.lane import Lane
from gateway.vitals.technical import UNDELIVERABLE
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.cloud_stub import http
from tests.experiments.rigs.inside import Inside, good, post
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from asyncio import StreamWriter

    from tests.experiments.rigs.cloud_stub import Fault, Request, Stub

DEATHS = ("nobody listens", "no answer", "alarms fail")
_SHOWS = {"needs-a-failure": DEATHS[1], "ends-with-health": DEATHS[2], "forgotten": DEATHS[0]}
"""The death that shows a planted fault."""

_TARGET_S = 1.0
_BRIEF_S = 10.0
"""For a busy host; the cloud store stays dead for longer."""
_FAULT_S = 1.5
_AGAIN_S = 0.25
"""Between two words in the log; a minute in the product."""


class _Said(logging.Handler):
    """How often the log said that it still holds."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.times = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.times += record.getMessage().startswith("emergencies undelivered")


async def _never(stub: Stub, request: Request, writer: StreamWriter) -> None:
    await asyncio.Event().wait()


async def _fail(stub: Stub, request: Request, writer: StreamWriter) -> None:
    writer.write(http(503))


async def _die(stub: Stub, how: str) -> None:
    if how == DEATHS[0]:
        await stub.close()
        return
    fault: Fault = _never if how == DEATHS[1] else _fail
    stub.answer = lambda lane, ids: fault if lane is Lane.EMERGENCY else None


async def _live(stub: Stub) -> None:
    stub.answer = lambda lane, ids: None
    await stub.close()
    await stub.open()


async def _undeliverable(inside: Inside) -> bool:
    return UNDELIVERABLE in {alarm["rule"] for alarm in await inside.alarms()}


async def _until(inside: Inside, holds: bool, within_s: float) -> float | None:
    """After how long the alarm is there, or is not there any more."""
    began = time.monotonic()
    while await _undeliverable(inside) is not holds:
        if time.monotonic() - began > within_s:
            return None
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _outage(inside: Inside, how: str, run: Run, said: _Said) -> tuple[str | None, float]:
    """What was wrong, and how long the alarm took."""
    within_s = _FAULT_S if run.fault else _TARGET_S if run.long else _BRIEF_S
    stub, link = inside.stub, await inside.link("b")
    if not await post(link, "a", good()) or not await until(lambda: len(stub.stored) == 1):
        return "an emergency was not delivered while the cloud store was well", 0.0
    if await _until(inside, False, within_s) is None:
        return "an alarm although the emergency was delivered", 0.0
    await _die(stub, how)
    if not await post(link, "a", good()):
        return "an emergency was not taken while the cloud store was dead", 0.0
    took = await _until(inside, True, within_s)
    if took is None:
        return f"{how}: no alarm within {within_s:g} s", 0.0
    status = await inside.ask("status")
    if status["alarms"].get(UNDELIVERABLE) != 1:
        return f"{how}: the status shows no alarm", took
    before = said.times
    if not await until(lambda: said.times > before + 1, _FAULT_S if run.fault else _BRIEF_S):
        return f"{how}: the log does not say it again", took
    await stub.close()  # a stop waits for what is under way
    await inside.stop()
    if how != DEATHS[0]:
        await stub.open()
    await inside.start()
    if not await _undeliverable(inside):
        return f"{how}: a restart ends the alarm", took
    before = said.times
    await until(lambda: said.times > before, _BRIEF_S)
    if not await _undeliverable(inside):
        return f"{how}: the alarm ended without a delivery", took
    await _live(stub)
    if await _until(inside, False, 40.0) is None:
        return f"{how}: the alarm did not end with the delivery", took
    if len(stub.stored) < 2:
        return f"{how}: the alarm ended before the delivery", took
    return None, took


_sweep = Undelivered.sweep


def _believes_health(self: Any, status: Any, pump: Any, now: float, wall: float) -> None:
    """A good word of the cloud store ends the alarm."""
    _sweep(self, status, pump, now, wall)
    if not pump["failure"]:
        self._book.end_technical(self._gateway, UNDELIVERABLE, wall)


async def _all(run: Run) -> Found:
    said = _Said()
    log = logging.getLogger("delivery")
    log.addHandler(said)
    failures, slowest = [], 0.0
    try:
        for number in range(run.runs):
            deaths = [_SHOWS[run.fault]] if run.fault else list(DEATHS)
            folders = [run.folder / f"{number}-{place}" for place in range(len(deaths))]
            found = await asyncio.gather(
                *(_one(*one, run, said) for one in zip(folders, deaths, strict=True))
            )
            failures += [wrong for wrong, _ in found if wrong is not None]
            slowest = max(slowest, *(took for _, took in found))
            run.progress(number + 1)
    finally:
        log.removeHandler(said)
    return Found(failures, {"slowest": f"{slowest:.2f} s"})


async def _one(folder: Any, how: str, run: Run, said: _Said) -> tuple[str | None, float]:
    async with Inside(folder, ["b"]) as inside:
        return await _outage(inside, how, run, said)


def run(run: Run) -> Found:
    """Three outages at once, each of a gateway of its own."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(undelivered, "AGAIN_S", _AGAIN_S))
        stack.enter_context(patch.object(logging.getLogger("alarms"), "disabled", True))
        if run.fault == "needs-a-failure":
            stack.enter_context(patch.object(undelivered, "SLOW_S", float("inf")))
        elif run.fault == "ends-with-health":
            stack.enter_context(patch.object(Undelivered, "sweep", _believes_health))
        elif run.fault == "forgotten":
            stack.enter_context(patch.object(AlarmBook, "restore", lambda *_: None))
        return asyncio.run(_all(run))


register(
    Experiment(
        id="L-04",
        name="undeliverable",
        target="cloud store dead (refuses, hangs, fails alarms only): alarm at most 1 s after the "
        "emergency, said again and again, over a restart; ended by a delivery and nothing else",
        unit="times three outages",
        short=1,
        long=50,
        run=run,
        faults={
            "needs-a-failure": "a cloud store that never answers is not a failure",
            "ends-with-health": "good health of the cloud store ends the alarm",
            "forgotten": "a restart forgets the alarm",
        },
        fault_runs=1,
    )
)
