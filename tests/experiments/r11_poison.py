"""R-11: one record that the cloud store always refuses holds up no other."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gateway import provision
from gateway.delivery import pump
from gateway.delivery.lanes import PROFILES
from gateway.lane import Lane
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.cloud_stub import Stub, http
from tests.experiments.rigs.line import Line

if TYPE_CHECKING:
    from tests.experiments.rigs.cloud_stub import Request

_WORDS = "malformed record"


def _run(run: Run) -> Found:
    return asyncio.run(_passes(run))


async def _passes(run: Run) -> Found:
    ward = run.folder / "ward"
    provision.make_ward(ward, ward="W1", cloud_url=None, port_base=None, wall=time.time())
    failures: list[str] = []
    most = 0
    source = Random(run.seed)
    places = {"first": 0, "in the middle": source.randrange(1, run.runs - 1), "last": run.runs - 1}
    halve = pump.Pump._halve if run.fault is None else _FAULTS[run.fault]
    with ExitStack() as stack:
        stack.enter_context(patch.object(pump.Pump, "_halve", halve))
        async with Stub(ward) as stub, Line(ward, run.folder / "o.db", stub.url, seed=0) as line:
            for lane in Lane:
                for status, (words, place) in zip((400, 422, 400), places.items(), strict=True):
                    trial = _Trial(run, stub, line, lane, status, place)
                    failures += [f"{lane}, {words}: {miss}" for miss in await trial.carry_out()]
                    most = max(most, trial.tries)
                    if failures and run.fault:
                        return Found(failures, {})
            failures += stub.wrong[:1]
    run.progress(run.runs)
    return Found(failures, {"passes": 2 * len(places), "tries of a poisoned record, at most": most})


class _Trial:
    """So many records of a lane, one of them poisoned."""

    def __init__(
        self, run: Run, stub: Stub, line: Line, lane: Lane, status: int, place: int
    ) -> None:
        self._run = run
        self._stub = stub
        self._line = line
        self._lane = lane
        self._status = status
        self._place = place
        self.tries = 0

    async def carry_out(self) -> list[str]:
        line, stub = self._line, self._stub
        before = await line.dead()
        ids: list[bytes] = []
        for at in range(0, self._run.runs, 500):
            ids += line.put(min(500, self._run.runs - at), self._lane)
        self._poison = ids[self._place]
        stub.answer = self._answer
        # Halved until it is alone, from the largest batch.
        most = PROFILES[self._lane].rows.bit_length() + 1
        drained = await line.drained(5.0 if self._run.fault else 120.0, lambda: self.tries > most)
        dead = {name: words for name, words in (await line.dead()).items() if name not in before}
        good = set(ids) - {self._poison}
        failures = []
        if self.tries > most:
            failures.append(f"sent {self.tries} times and not found")
        elif not drained:
            failures.append("the lane is blocked")
        if drained and good - stub.stored:
            failures.append(f"{len(good - stub.stored)} good records are not delivered")
        if drained and dead != {self._poison: f"{self._status} {_WORDS}"}:
            failures.append(f"{len(dead)} dead letters, not the one with the store's words")
        return failures

    def _answer(self, lane: Lane, ids: list[bytes]) -> Any:
        if self._poison not in ids:
            return None
        self.tries += 1
        return self._refuse

    async def _refuse(self, _: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(self._status, json.dumps({"error": _WORDS}).encode()))


def _blocked(self: Any) -> None:
    """The batch is tried again as it is."""


def _all_dead(self: Any) -> None:
    self._give_up(self._work.popleft(), f"400 {_WORDS}")


_FAULTS = {"no-halving": _blocked, "all-dead": _all_dead}

register(
    Experiment(
        id="R-11",
        name="poison",
        target="one record that is always refused (400, 422), first, last or amid the others: all "
        "others are delivered, it alone becomes a dead letter with the store's words, after as "
        "many tries as halvings",
        unit="records",
        short=100,
        long=10_000,
        run=_run,
        faults={
            "no-halving": "a refused batch is tried again as it is",
            "all-dead": "a refused batch is given up as a whole",
        },
        fault_runs=100,
    )
)
