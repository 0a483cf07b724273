"""R-12: one record, then silence: it is delivered without anything else to wake the delivery."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gateway import provision
from gateway.delivery import pump
from gateway.lane import Lane
from gateway.outbox.writer import Writer
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.cloud_stub import Stub
from tests.experiments.rigs.line import Line, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.outbox.entry import Leased

_TARGET_S = 1.0
_BRIEF_S = 8.0
"""For a busy host; less than the ten seconds after which the emergency lane looks by itself."""
_FAULT_S = 1.0
_PAUSE_S = {False: 0.03, True: 1.0}
"""Pauses are drawn from zero to this, in a brief run and in a long one."""


class Aimed(Writer):
    """Commits one more record at the worst moment: a lane was found empty, and its pump has not
    heard of it yet."""

    lone: Callable[[Lane], None] | None = None

    async def lease(self, lane: Lane, limit: int, max_bytes: int, *, now: float) -> list[Leased]:
        leased = await super().lease(lane, limit, max_bytes, now=now)
        if not leased and self.lone is not None:
            put, self.lone = self.lone, None
            put(lane)
            await self.flush()
        return leased


def _run(run: Run) -> Found:
    return asyncio.run(_records(run))


async def _records(run: Run) -> Found:
    ward = run.folder / "ward"
    provision.make_ward(ward, ward="W1", cloud_url=None, port_base=None, wall=time.time())
    within_s = _FAULT_S if run.fault else _TARGET_S if run.long else _BRIEF_S
    source = Random(run.seed)
    slowest = 0.0
    with ExitStack() as stack:
        if run.fault:
            stack.enter_context(patch.object(pump.Pump, "_lease", _clear_afterwards))
        stub = Stub(ward)
        async with stub, Line(ward, run.folder / "o.db", stub.url, seed=0, writer=Aimed) as line:
            for number in range(run.runs):
                lane = source.choice(list(Lane))
                await asyncio.sleep(source.uniform(0.0, _PAUSE_S[run.long]))
                ids: list[bytes] = []
                if number % 2:
                    line.writer.lone = lambda lane, ids=ids: ids.extend(line.put(1, lane))
                    line.put(1, lane)
                    await until(lambda ids=ids: bool(ids))
                else:
                    ids += line.put(1, lane)
                began = time.monotonic()
                if not await until(lambda ids=ids: ids[0] in stub.stored, within_s):
                    how = "while its lane was found empty" if number % 2 else "in a pause"
                    words = f"a lone record, committed {how}, was not delivered in {within_s:.0f} s"
                    return Found([words], {})
                slowest = max(slowest, time.monotonic() - began)
                run.progress(number + 1)
            return Found(stub.wrong[:1], {"slowest": f"{slowest:.3f} s"})


_lease = pump.Pump._lease


async def _clear_afterwards(self: Any) -> bool:
    """What was committed meanwhile is forgotten."""
    leased = await _lease(self)
    self._writer.woken(self._lane).clear()
    return leased


register(
    Experiment(
        id="R-12",
        name="lone-record",
        target="a record, then silence: delivered within 1 s without a second event, also when it "
        "is committed while its lane is being found empty",
        unit="records",
        short=50,
        long=1000,
        run=_run,
        faults={"cleared-late": "the event of a new record is cleared after the outbox is asked"},
        fault_runs=10,
    )
)
