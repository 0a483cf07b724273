"""R-09: the cloud store is away for a day's rows, and comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from gateway.lane import Lane
from tests.acceptance.ward import a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.bracelets import Bracelets, lost_or_doubled, memory
from tests.experiments.rigs.cloud_stub import Stub, http
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward
    from tests.experiments.rigs.cloud_stub import Request

_BRACELETS = 20
_EMERGENCIES = 50
"""One record of so many is an emergency."""
_STOPS = (signal.SIGTERM, signal.SIGKILL)
"""The two restarts while the store is away."""
_FLAT = 0.1
_AGE_S = 2.0
_DRAIN = 3.0
_WITHIN_S = 120.0
_FAULT_S = 0.8
_EVERY_S = 0.05


def _run(run: Run) -> Found:
    with a_ward(run.folder) as ward:
        ward.make()
        ward.planted = run.fault and run.fault.replace("-", "_")
        return asyncio.run(_Outage(run, ward).carry_out())


class _Outage:
    def __init__(self, run: Run, ward: Ward) -> None:
        self._run = run
        self._ward = ward
        self._bracelets = Bracelets(ward, _BRACELETS)
        self._stub = Stub(ward.folder)
        self._stub.port = ward.port_base + 3
        self._stub.keeps = True
        self._failures: list[str] = []
        self._resident: list[str] = []
        self._sent = dict.fromkeys(Lane, 0)
        self._open = asyncio.Event()

    async def carry_out(self) -> Found:
        intake = await self._away()
        try:
            ages, drain = await self._back()
        finally:
            await self._bracelets.close()
            await self._stub.close()
        self._failures += self._stub.wrong[:1]
        figures: dict[str, object] = {
            "memory": " ".join(self._resident),
            "rows/s in": round(intake),
            "rows/s out": round(drain),
            "emergency's age, p99": f"{ages[int(len(ages) * 0.99)]:.3f} s" if ages else "none came",
        }
        if self._run.long and ages and ages[int(len(ages) * 0.99)] > _AGE_S:
            self._failures.append(f"an emergency's age, p99, is over {_AGE_S} s")
        if self._run.long and drain < _DRAIN * intake:
            self._failures.append(f"drained at {drain:.0f} rows/s, taken in at {intake:.0f}")
        return Found(self._failures, figures)

    async def _send(self, count: int, lane: Lane) -> None:
        await self._bracelets.send(count, lane)
        self._sent[lane] += count

    async def _away(self) -> float:
        """Rows come in, nobody takes them, twice the gateway starts again; rows a second."""
        stops = () if self._run.fault else _STOPS
        share = self._run.runs // (len(stops) + 1)
        usual = took = 0.0
        if self._run.long:
            # So many messages are remembered for some minutes, whether the store takes them or not.
            await self._stub.open()
            usual, _ = await self._part(share)
            await until(lambda: len(self._stub.order) == sum(self._sent.values()), _WITHIN_S)
            self._ward.stop_gateway()
            await self._stub.close()
        for part, stop in enumerate((*stops, None)):
            grown, took = await self._part(share)
            if abs(grown - usual) > _FLAT:
                self._failures.append(
                    f"memory {grown:+.0%} in {share} rows, {usual:+.0%} without an outage"
                )
            if stop is not None:
                self._ward.stop_gateway(stop)
            self._run.progress((part + 1) * share)
        return (share - share // 5) / took

    async def _part(self, share: int) -> tuple[float, float]:
        """One run of the gateway: by how much its memory grew, and the seconds of that."""
        self._ward.start_gateway()
        assert self._ward.gateway is not None
        await self._bracelets.connect()
        await self._send(share // 5, Lane.ROUTINE)
        before = memory(self._ward.gateway.pid).resident
        began = time.monotonic()
        await self._send(share - share // 5, Lane.ROUTINE)
        took = time.monotonic() - began
        await self._send(max(share // _EMERGENCIES, 1), Lane.EMERGENCY)
        grown = memory(self._ward.gateway.pid).resident / before - 1
        self._resident.append(f"{before >> 20} MiB {grown:+.1%}")
        return grown, took

    def _arrived(self, lane: Lane) -> int:
        return sum(one == lane for _, one, _ in self._stub.order)

    async def _back(self) -> tuple[list[float], float]:
        """The store is there again: ages of the emergencies since then, and rows a second."""
        stub = self._stub
        stub.answer = lambda lane, ids: self._hold if lane is Lane.ROUTINE else None
        await stub.open()
        within_s = _FAULT_S if self._run.fault else _WITHIN_S
        # While the first routine batch is not even answered.
        if not await self._emergencies_arrive(within_s):
            self._failures.append("emergencies wait behind the routine lane")
        first = self._sent[Lane.EMERGENCY]
        if not self._failures:
            await self._send(10, Lane.EMERGENCY)
            if not await self._emergencies_arrive(within_s):
                self._failures.append("a new emergency waits behind the backlog")
        began = time.monotonic()
        self._open.set()
        stub.answer = lambda lane, ids: None
        if self._run.fault:
            return [], 0.0
        behind = self._arrived(Lane.ROUTINE)  # of the usual part
        while self._run.long and self._arrived(Lane.ROUTINE) < self._sent[Lane.ROUTINE]:
            await self._send(1, Lane.EMERGENCY)
            await asyncio.sleep(_EVERY_S)
        if not await until(lambda: len(stub.order) == sum(self._sent.values()), _WITHIN_S):
            self._failures.append("the backlog is not delivered")
        last = max(at for _, lane, at in stub.order if lane is Lane.ROUTINE)
        drain = (self._sent[Lane.ROUTINE] - behind) / (last - began)
        self._failures += lost_or_doubled(self._bracelets.acknowledged, self._ward, stub)
        came = [at for _, lane, at in stub.order if lane is Lane.EMERGENCY][first:]
        # The last that were acknowledged, in order, as both lists are.
        sent = self._bracelets.at[-len(came) :] if came else []
        return sorted(arrived - left for arrived, left in zip(came, sent, strict=True)), drain

    async def _emergencies_arrive(self, within_s: float) -> bool:
        return await until(
            lambda: self._arrived(Lane.EMERGENCY) == self._sent[Lane.EMERGENCY], within_s
        )

    async def _hold(self, stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        writer.write(http(200, stub.store(request)))


register(
    Experiment(
        id="R-09",
        name="outage",
        target="the cloud store is away while a day's rows come in, the gateway is stopped and "
        "killed meanwhile: 0 lost; memory within 10 % of what it is without; after it emergencies "
        "first, p99 of their age 2 s while the rest waits; drained three times as quickly as it "
        "came in",
        unit="rows",
        short=1440,
        long=144_000,
        run=_run,
        faults={"emergencies-wait": "both lanes are delivered in one order"},
        fault_runs=100,
    )
)
