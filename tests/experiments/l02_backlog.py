"""L-02: emergencies while routine waits in the outbox by the thousands, and everything is slow.

The cloud store takes a routine batch a second, every commit waits 50 ms for the disk, and routine
messages go on coming. A whole gateway over an outbox that was filled before it started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gateway.cose.envelope import Envelope
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from gateway.vitals.assessment import Assessment
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.l01_emergencies import not_delivered, quantile
from tests.experiments.rigs.cloud_stub import http
from tests.experiments.rigs.inside import Inside
from tests.experiments.rigs.overload import Flood, emergencies

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from collections.abc import Sequence
    from pathlib import Path

    from tests.experiments.rigs.cloud_stub import Fault, Request, Stub

WAITING = {False: 20_000, True: 1_000_000}
EMERGENCIES = 10
NODES = [f"e{number}" for number in range(EMERGENCIES)]
FLOODERS = [f"f{number}" for number in range(10)]
_NO_LIMIT = {
    "WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": "0",
    "WARD_GATEWAY_OUTBOX__MAX_BYTES": "4 GiB",
}
_FLOOD_PAUSE_S = 0.05
_SYNC_S = 0.05
_BATCH_S = 1.0
_TARGET_S = 0.5
_BRIEF_S = 20.0
_FAULT_S = 1.5
_AT_ONCE = 5000


def _fill(path: Path, rows: int) -> None:
    """Routine entries that wait since yesterday."""
    store = Store(path)
    now_ms = int(time.time() * 1000)
    epoch, patient = os.urandom(16), os.urandom(16)
    for first in range(0, rows, _AT_ONCE):
        store.begin()
        store.envelopes.add([Envelope(epoch, "gateway", patient, Lane.ROUTINE, now_ms, (), b"key")])
        store.add(
            Lane.ROUTINE,
            [
                Entry(os.urandom(16), Lane.ROUTINE, patient, now_ms, epoch, os.urandom(300), None)
                for _ in range(first, min(first + _AT_ONCE, rows))
            ],
        )
        store.commit()
    store.close()


async def _late(stub: Stub, request: Request, writer: StreamWriter) -> None:
    await asyncio.sleep(_BATCH_S)
    writer.write(http(200, stub.store(request)))


def _a_batch_a_second(lane: Lane, ids: Sequence[bytes]) -> Fault | None:
    return _late if lane is Lane.ROUTINE else None


_commit = Store.commit


def _slow_commit(self: Store) -> None:
    time.sleep(_SYNC_S)
    _commit(self)


async def _emergencies(run: Run) -> Found:
    rows = WAITING[run.long]
    inside = Inside(run.folder, [*NODES, *FLOODERS], _NO_LIMIT)
    await asyncio.to_thread(_fill, inside.state / "outbox.db", rows)
    with patch.object(Store, "commit", _slow_commit):
        async with inside:
            inside.stub.answer = _a_batch_a_second
            links = [await inside.link(name) for name in NODES]
            if run.long:
                rounds = [[links[n % len(links)]] for n in range(run.runs)]
            else:
                rounds = [links] * (run.runs // len(links))
            async with Flood(inside, FLOODERS, pause_s=_FLOOD_PAUSE_S):
                within_s = _FAULT_S if run.fault else _BRIEF_S
                every_s = 1.0 if run.long else 0.0
                found = await emergencies(inside.stub, rounds, every_s=every_s, within_s=within_s)
            left = inside.gateway.status()["outbox"]["lanes"][Lane.ROUTINE]["rows"]
            run.progress(len(found))
    failures = not_delivered(found, run.runs) + inside.stub.wrong[:1]
    times = [one.uploaded for one in found if one.uploaded is not None]
    p99 = quantile(times, 0.99)
    if not run.fault and not left:
        failures.append("nothing waited any more: the emergencies overtook nobody")
    if run.long and p99 > _TARGET_S:
        failures.append(f"p99 is {1000 * p99:.0f} ms")
    figures = {
        "waiting at the end": left,
        "p50": f"{1000 * quantile(times, 0.5):.0f} ms",
        "p99": f"{1000 * p99:.0f} ms",
    }
    return Found(failures, figures)


_lease = Writer.lease


async def _in_order(self: Any, lane: Lane, limit: int, max_bytes: int, *, now: float) -> Any:
    """What came first is delivered first."""
    if lane is Lane.EMERGENCY and self.status().lanes[Lane.ROUTINE].rows:
        return []
    return await _lease(self, lane, limit, max_bytes, now=now)


def run(run: Run) -> Found:
    """See the module."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(logging.getLogger("alarms"), "disabled", True))
        stack.enter_context(patch.object(logging.getLogger("delivery"), "disabled", True))
        if run.fault == "one-lane":
            stack.enter_context(patch.object(Assessment, "lane", Lane.ROUTINE))
        elif run.fault == "in-order":
            stack.enter_context(patch.object(Writer, "lease", _in_order))
        return asyncio.run(_emergencies(run))


register(
    Experiment(
        id="L-02",
        name="backlog",
        target="emergencies while 1,000,000 (short 20,000) rows wait, the cloud store takes a "
        "routine batch a second and each sync 50 ms: datagram to upload p99 500 ms",
        unit="emergencies",
        short=50,
        long=1000,
        run=run,
        faults={
            "one-lane": "emergencies go the routine lane",
            "in-order": "what came first is delivered first",
        },
        fault_runs=10,
    )
)
