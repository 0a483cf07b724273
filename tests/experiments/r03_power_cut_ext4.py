"""R-03: the power of a whole gateway's disk is cut: an ext4 image that is shut down under it.

Frozen first, every thread: otherwise a sync that is under way races with the shutdown, and what is
lost is the rig's. What the nodes have received by then is acknowledged. Then the file system drops
what is not on its disk, page cache and journal; it is mounted again, and the gateway started on it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward
from tests.experiments.rigs.volume import Volume, ext4, no_ext4

_NODES = 10
_IMAGE = 128 << 20
_LOAD_S = (0.1, 0.3)
_STOP_S = 20.0
_RECOVERED_S = 5.0


async def _cuts(run: Run) -> Found:
    chance = random.Random(run.seed)
    again: list[float] = []
    async with a_mortal_ward(run.folder, _NODES) as ward:
        ward.planted = run.fault
        with ext4(ward.state, run.folder / "image", _IMAGE) as volume:
            for done in range(run.runs):
                await ward.live()
                ward.crowd.heard.clear()
                async with asyncio.timeout(60):
                    await ward.crowd.heard.wait()
                again.append(ward.crowd.first - ward.born_at)
                await asyncio.sleep(chance.uniform(*_LOAD_S))
                await _cut(ward, volume)
                run.progress(done + 1)
            failures = await ward.verdict()
            # Keys and rosters too, not only the outbox.
            failures += [one for one in ward.log("gateway").splitlines() if "level=error" in one]
        if run.long and max(again) > _RECOVERED_S:
            failures.append(f"the gateway was back after {max(again):.1f} s")
        figures = {
            "acknowledged": len(ward.crowd.acknowledged),
            "back after at most ms": round(max(again) * 1000),
        }
    return Found(failures, figures)


async def _cut(ward: Mortal, volume: Volume) -> None:
    assert ward.gateway is not None
    await _freeze(ward.gateway.pid)
    # What has arrived at a node's socket is acknowledged: let them all read.
    for _ in range(20):
        await asyncio.sleep(0)
    volume.cut()
    await ward.kill()
    await asyncio.to_thread(volume.unmount)
    await asyncio.to_thread(volume.mount)


async def _freeze(pid: int) -> None:
    """A thread in a sync stops when the sync returns."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _STOP_S
    while not all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, "the gateway does not stop"
        await asyncio.sleep(0.001)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def _run(run: Run) -> Found:
    return asyncio.run(_cuts(run))


register(
    Experiment(
        id="R-03",
        name="power-cut-ext4",
        target="0 acknowledged lost, 0 doubled, order kept; acknowledges again <= 5 s",
        unit="cuts",
        short=10,
        long=1000,
        run=_run,
        faults={"synchronous_normal": "the outbox does not wait for the disk"},
        fault_runs=4,
        needs=no_ext4,
    )
)
