"""R-22: hours of a usual ward, with a cloud store that comes and goes, leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from statistics import linear_regression
from typing import TYPE_CHECKING, NamedTuple

from gateway import control
from gateway.lane import Lane
from gateway.recent_keys import RECENT
from tests.acceptance.ward import a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.bracelets import Bracelets, lost_or_doubled, memory
from tests.experiments.rigs.cloud_stub import Stub
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward

_BRACELETS = 20
"""Each sends once a second; a visitor comes and goes each second."""
_EMERGENCY_EVERY = 10
_FLAP_S = 300
_AWAY_S = 60
"""Every five minutes the store is away for one. In a brief run a second is as short as it can be:
it counts as many messages, associations and flaps, and no time."""
_BRIEF_FLAP_S = 20
_BRIEF_AWAY_S = 5
_FAULT_S = 15
_SAMPLE_S = 30
_SETTLED_S = 900
_SLOPE = 1 << 20
"""Bytes an hour."""
_BRIEF_GROWTH = 8 << 20
"""Of a brief run, after its first third."""
_MORE = 3
"""Descriptors or tasks: those of a request that happens to be under way."""
_WAL = 8 << 20
_SLOWER = 1.1
_WITHIN_S = 60.0
_LEFT_S = 0.4
_LOOK_S = 0.1
_COUNTED = ("descriptors", "tasks", "associations")


class Sample(NamedTuple):
    """Of a gateway that has nothing to do."""

    second: float
    resident: int
    descriptors: int
    tasks: int
    associations: int
    log: int
    """Bytes of the outbox's write-ahead log."""


def _run(run: Run) -> Found:
    with a_ward(run.folder) as ward:
        ward.make()
        ward.planted = run.fault and run.fault.replace("-", "_")
        return asyncio.run(_Soak(run, ward).carry_out())


class _Soak:
    def __init__(self, run: Run, ward: Ward) -> None:
        self._run = run
        self._ward = ward
        self._bracelets = Bracelets(ward, _BRACELETS)
        self._visitor = ward.enter("visitor")
        self._stub = Stub(ward.folder)
        self._stub.port, self._stub.keeps = ward.port_base + 3, True
        self._away = False
        self._samples: list[Sample] = []

    async def carry_out(self) -> Found:
        run, bracelets = self._run, self._bracelets
        seconds = _FAULT_S if run.fault else 60 * run.runs
        self._ward.start_gateway()
        self._await_rest()
        before = self._now(0)
        await self._stub.open()
        await bracelets.connect()
        if run.long:
            # What is remembered of messages has a cap, which a usual ward reaches in an hour.
            await bracelets.send(RECENT, Lane.ROUTINE)
            bracelets.took.clear()
        began = time.monotonic()
        try:
            for second in range(seconds):
                await self._flap(second)
                await bracelets.send(_BRACELETS, Lane.ROUTINE)
                if second % _EMERGENCY_EVERY == 0:
                    await bracelets.send(1, Lane.EMERGENCY)
                await bracelets.visit(self._visitor)
                if run.long:
                    await asyncio.sleep(max(began + second + 1 - time.monotonic(), 0.0))
                if not self._away and second % (_SAMPLE_S if run.long else 5) == 0:
                    self._sample(second)
                run.progress((second + 1) // 60)
            if self._away:
                await self._stub.open()
            sent = len(bracelets.acknowledged)
            arrived = await until(lambda: len(self._stub.order) >= sent, _WITHIN_S)
            self._sample(seconds)
        finally:
            await bracelets.close()
            await self._stub.close()
        failures = [] if arrived else [f"{len(self._stub.order)} of {sent} packs are delivered"]
        failures += lost_or_doubled(bracelets.acknowledged, self._ward, self._stub)
        failures += self._judge_constant() + self._stub.wrong[:1] + await self._judge_end(before)
        if run.long:
            failures += self._judge_slope()
        return Found(failures, self._figures())

    async def _flap(self, second: int) -> None:
        every, away = (_FLAP_S, _AWAY_S) if self._run.long else (_BRIEF_FLAP_S, _BRIEF_AWAY_S)
        now_away = second % every >= every - away
        if now_away and not self._away:
            await self._stub.close()
        elif self._away and not now_away:
            await self._stub.open()
        self._away = now_away

    def _await_rest(self) -> None:
        """Both pumps have asked the outbox in vain and wait: until then some tasks are not there.
        These questions stand behind theirs."""
        control.ask(self._ward.state, "ping")
        control.ask(self._ward.state, "dead_letters", outbox=0, after=0)

    def _sample(self, second: int) -> None:
        self._samples.append(self._now(second))

    def _now(self, second: int) -> Sample:
        assert self._ward.gateway is not None
        used, status = memory(self._ward.gateway.pid), self._ward.status()
        log = self._ward.state / "outbox.db-wal"
        return Sample(
            second,
            used.resident,
            used.descriptors,
            status["tasks"],
            status["associations"],
            log.stat().st_size,
        )

    async def _judge_end(self, before: Sample) -> list[str]:
        """Everybody has gone, the store too: what is left was there before they came."""

        def left() -> list[str]:
            now = self._now(0)
            return [
                f"{getattr(before, name)} {name} before, {getattr(now, name)} afterwards"
                for name in _COUNTED
                if getattr(now, name) > getattr(before, name) + _MORE
            ]

        await until(lambda: not left(), _LEFT_S if self._run.fault else _WITHIN_S, _LOOK_S)
        return left()

    def _judge_constant(self) -> list[str]:
        third = len(self._samples) // 3
        first, last = self._samples[: third + 1], self._samples[-third - 1 :]
        failures = []
        for name in _COUNTED if self._run.long else ():
            # The least of some: what a request needs that is under way does not count.
            before, after = (min(getattr(one, name) for one in some) for some in (first, last))
            if after > before + _MORE:
                failures.append(f"{before} {name} in the first third, {after} in the last")
        grown = self._samples[-1].resident - first[-1].resident
        if not self._run.long and grown > _BRIEF_GROWTH:
            failures.append(f"{grown >> 10} KiB more after the first third")
        if (most := max(one.log for one in self._samples)) > _WAL:
            failures.append(f"a write-ahead log of {most >> 20} MiB")
        return failures

    def _slope(self) -> float:
        """Bytes an hour, once it has settled."""
        settled = [one for one in self._samples if one.second >= _SETTLED_S]
        if len(settled) < 3:
            return 0.0
        return (
            3600
            * linear_regression(
                [one.second for one in settled], [one.resident for one in settled]
            ).slope
        )

    def _p99s(self) -> tuple[float, float]:
        """Of the first and the last hour, or of as much as there is: seconds to be acknowledged."""
        took = self._bracelets.took
        hour = min(3600 * (_BRACELETS + 1), len(took) // 3)
        first, last = sorted(took[:hour]), sorted(took[-hour:])
        return first[int(0.99 * hour)], last[int(0.99 * hour)]

    def _judge_slope(self) -> list[str]:
        failures = []
        if self._run.runs >= 60 and (slope := self._slope()) > _SLOPE:
            failures.append(f"{slope / 1024:.0f} KiB more an hour")
        first, last = self._p99s()
        if self._run.runs >= 120 and last > _SLOWER * first:
            failures.append(f"p99 {1000 * first:.1f} ms in the first hour, {1000 * last:.1f} last")
        return failures

    def _figures(self) -> dict[str, object]:
        first, last = self._samples[len(self._samples) // 3], self._samples[-1]
        p99 = " to ".join(f"{1000 * one:.1f}" for one in self._p99s())
        return {
            "packs": len(self._bracelets.acknowledged),
            "KiB": f"{first.resident >> 10} to {last.resident >> 10}",
            "KiB/h": round(self._slope() / 1024),
            "descriptors": f"{first.descriptors} to {last.descriptors}",
            "tasks": f"{first.tasks} to {last.tasks}",
            "log, KiB": max(one.log for one in self._samples) >> 10,
            "p99, ms": p99,
        }


register(
    Experiment(
        id="R-22",
        name="soak",
        target="a usual ward, an association opened and closed each second, the cloud store away "
        "every five minutes: memory grows by at most 1 MiB an hour after 15 minutes, descriptors "
        "and tasks do not, the write-ahead log stays under 8 MiB, p99 of the last hour within 1.1 "
        "of the first",
        unit="minutes",
        short=1,
        long=480,
        run=_run,
        faults={
            "growing-list": "something is kept of every message",
            "left-by-an-upload": "an upload leaves a file open and a task behind",
        },
        fault_runs=1,
    )
)
