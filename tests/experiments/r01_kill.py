"""R-01: `kill -9` under load, the outbox kept over the kills.

Half of the kills come at a random time from outside; the others from the gateway itself, at a place
where it hurts (``planted/dies.py``). This tests the order of things. It says nothing about a power
cut: what a killed process has written is still in the kernel's hands (R-02, R-03).
"""

from __future__ import annotations

import asyncio
import random
from statistics import quantiles

from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward

_NODES, _SOME = 50, 12
"""The short run has fewer: most of its time would go into their handshakes."""
_PLACES = ("received", "before_commit", "committed", "checkpoint", "uploading", "uploaded")
_AGAIN_S = 2.0
_IN_VAIN_S = 3.0
"""For a gateway that does not come by the place at which it is to die."""


async def _lives(run: Run) -> Found:
    chance = random.Random(run.seed)
    again: list[float] = []
    missed = 0
    async with a_mortal_ward(run.folder, _NODES if run.long else _SOME) as ward:
        if run.fault is not None:
            ward.environment["DIES_WITH"] = run.fault
        for done in range(run.runs):
            aimed = done % 2 == 1 or run.fault is not None
            if aimed:
                place = "before_commit" if run.fault else _PLACES[done // 2 % len(_PLACES)]
                times = chance.randint(2, 4 if place.startswith("upload") else 20)
                ward.environment["DIES_AT"] = f"{place}:{times}"
            ward.planted = "dies" if aimed else None
            await ward.live()
            if aimed:
                missed += await ward.ended(_IN_VAIN_S) is None
            else:
                await _heard(ward)
                await asyncio.sleep(chance.uniform(0, 0.15))
            if ward.crowd.first:
                again.append(ward.crowd.first - ward.born_at)
            await ward.kill()
            run.progress(done + 1)
        failures = await ward.verdict()
        if run.long and missed > run.runs // 10:
            failures.append(f"{missed} gateways did not die where they were to")
        p99 = quantiles(again, n=100, method="inclusive")[98] if len(again) > 1 else 0.0
        if run.long and p99 > _AGAIN_S:
            failures.append(f"first acknowledgement after {p99:.1f} s")
        figures = {
            "acknowledged": len(ward.crowd.acknowledged),
            "first acknowledgement p99 ms": round(p99 * 1000),
            "missed their place": missed,
        }
    return Found(failures, figures)


async def _heard(ward: Mortal) -> None:
    ward.crowd.heard.clear()
    async with asyncio.timeout(60):
        await ward.crowd.heard.wait()


def _run(run: Run) -> Found:
    return asyncio.run(_lives(run))


register(
    Experiment(
        id="R-01",
        name="kill",
        target="0 acknowledged lost, 0 doubled, order kept; first acknowledgement <= 2 s p99",
        unit="kills",
        short=20,
        long=3000,
        run=_run,
        faults={"answer_before_commit": "a node is answered when its record is queued"},
        fault_runs=2,
    )
)
