"""R-19: SIGTERM under load, again and again; the nodes are left to find the next gateway."""

from __future__ import annotations

import asyncio
import random
import signal
import time

from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward

_NODES = 12
_EXIT_S = 5.0
_BACK_S = 10.0
_IN_VAIN_S, _FAULT_S = 40.0, 6.0


async def _stops(run: Run) -> Found:
    chance = random.Random(run.seed)
    ends: list[float] = []
    backs: list[float] = []
    failures: list[str] = []
    async with a_mortal_ward(run.folder, _NODES) as ward:
        ward.planted = run.fault
        await ward.live()
        for done in range(run.runs):
            backs.append(await _all_heard(ward, ward.born_at))
            await asyncio.sleep(chance.uniform(0, 0.2))
            began = time.monotonic()
            assert ward.gateway is not None
            ward.gateway.send_signal(signal.SIGTERM)
            code = await ward.ended(_FAULT_S if run.fault else _IN_VAIN_S)
            ends.append(time.monotonic() - began)
            if code != 0:
                failures.append(f"exit code {code} after {ends[-1]:.1f} s")
                break
            await asyncio.to_thread(ward.start_gateway)
            run.progress(done + 1)
        backs.append(await _all_heard(ward, ward.born_at))
        await ward.kill()
        failures += await ward.verdict()
        if run.long and max(ends) > _EXIT_S:
            failures.append(f"one took {max(ends):.1f} s to end")
        if run.long and max(backs) > _BACK_S:
            failures.append(f"a node was back after {max(backs):.1f} s")
        figures = {
            "acknowledged": len(ward.crowd.acknowledged),
            "ended within s": round(max(ends), 2),
            "nodes back within s": round(max(backs), 2),
        }
    return Found(failures, figures)


async def _all_heard(ward: Mortal, since: float) -> float:
    """Seconds from then until every node was acknowledged again."""
    async with asyncio.timeout(_IN_VAIN_S):
        while min(ward.crowd.last.values()) < since:
            ward.crowd.heard.clear()
            await ward.crowd.heard.wait()
    return max(ward.crowd.last.values()) - since


def _run(run: Run) -> Found:
    return asyncio.run(_stops(run))


register(
    Experiment(
        id="R-19",
        name="stop",
        target="exit <= 5 s with code 0, 0 acknowledged lost, nodes back <= 10 s",
        unit="SIGTERMs",
        short=5,
        long=200,
        run=_run,
        faults={"hasty_stop": "the outbox is closed first, and what comes then is answered"},
        fault_runs=1,
    )
)
