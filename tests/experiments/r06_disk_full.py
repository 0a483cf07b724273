"""R-06: a full disk under a whole gateway, on a small partition that it shares with others.

Its own records fill it first: routine is refused, emergencies go on until their reserve is spent.
Then somebody else takes every byte that is left. A message then meets the full disk inside its
transaction. Killed, the gateway starts again on the full disk; the cloud store comes back, and what
waits is delivered and deleted without a byte being free. Then there is room again.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from gateway.coap.numbers import Code, Option
from gateway.lane import Lane
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.mortal import Mortal, a_mortal_ward
from tests.experiments.rigs.volume import no_tmpfs, tmpfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.node.link import Link

_NODES = 8
_PARTITION = 8 << 20
_OTHERS = 5 << 20
"""Of the partition, in the short run: filling it takes time."""
_RESERVE = 256 << 10
_PADDING = 700
_ROW = 2000
"""About what such a pack takes of the disk, with its share of pages that are not full."""
_BACK_S = 5.0
_VAIN_S = 2.0
"""Where a fault is planted."""
_PATIENCE_S = 40.0
"""For what has no limit in the target."""


class _Disk:
    """The partition and those who share it."""

    def __init__(self, ward: Mortal) -> None:
        self._folder = ward.state
        self._others = ward.state / "others"

    def take(self, size: int) -> None:
        """So much; everything if there is less."""
        file = os.open(self._others, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while size > 0:
                size -= os.write(file, bytes(min(size, 4096)))
        except OSError:
            pass
        os.close(file)

    def give_back(self) -> None:
        self._others.unlink()

    def log(self) -> int:
        """Bytes of the outbox's log."""
        return (self._folder / "outbox.db-wal").stat().st_size


async def _fill(ward: Mortal, links: list[Link], lane: Lane) -> int:
    """Send until nobody is taken any more; how many were."""
    before = len(ward.crowd.acknowledged)

    async def one(place: int) -> None:
        while True:
            answer = await ward.crowd.ask(place, links[place], lane, _PADDING)
            if answer.code != Code.CHANGED:
                assert answer.uint(Option.MAX_AGE), "5.03 without Max-Age"
                return

    await asyncio.gather(*(one(place) for place in range(len(links))))
    return len(ward.crowd.acknowledged) - before


async def _within(holds: Callable[[], object], seconds: float) -> float | None:
    """How long it took; None if it was in vain."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        if time.monotonic() - began > seconds:
            return None
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _once(ward: Mortal, run: Run) -> list[str]:
    disk, failures = _Disk(ward), []
    disk.take(0 if run.long else _OTHERS)
    await ward.stub.close()
    await asyncio.to_thread(ward.start_gateway)
    links = await ward.crowd.links()
    await _fill(ward, links, Lane.ROUTINE)
    taken = await _fill(ward, links, Lane.EMERGENCY)
    if taken * _ROW < _RESERVE // 2:
        failures.append(f"only {taken} emergencies were taken after routine was refused")
    # Once the log is folded in, nothing but the ballast is left.
    await _within(lambda: not disk.log(), _PATIENCE_S)
    disk.take(_PARTITION)
    for lane in Lane:
        await ward.crowd.ask(0, links[0], lane, _PADDING)
    if await ward.ended(0) is not None:
        return [*failures, "the full disk ended the gateway"]
    await ward.kill()
    await asyncio.to_thread(ward.start_gateway)
    notice = (await asyncio.to_thread(ward.status))["outbox"]["notice"]
    if "full" not in notice:
        failures.append(f"a full disk, and the status says {notice!r}")
    await ward.stub.open()
    failures += await _emptied(ward)
    disk.give_back()
    failures += await _back(ward, _BACK_S if run.long else _PATIENCE_S)
    failures += ["the gateway has ended"] if await ward.ended(0) is not None else []
    await ward.kill()
    return failures


async def _emptied(ward: Mortal) -> list[str]:
    def empty() -> bool:
        return not ward.waiting("emergency") and not ward.waiting("routine")

    if await _within(empty, _VAIN_S if ward.planted else _PATIENCE_S) is None:
        return ["what is delivered cannot be deleted on the full disk"]
    return []


async def _back(ward: Mortal, within_s: float) -> list[str]:
    links, began = await ward.crowd.links(), time.monotonic()
    while (await ward.crowd.ask(0, links[0], Lane.ROUTINE)).code != Code.CHANGED:
        if time.monotonic() - began > within_s:
            return [f"routine is refused {within_s:.0f} s after there was room again"]
        await asyncio.sleep(0.05)
    return []


async def _fills(run: Run) -> Found:
    failures: list[str] = []
    async with a_mortal_ward(run.folder, _NODES) as ward:
        # More than the partition has: it is the disk that ends first.
        ward.environment["WARD_GATEWAY_OUTBOX__MAX_BYTES"] = str(64 << 20)
        ward.environment["WARD_GATEWAY_OUTBOX__RESERVE_BYTES"] = str(_RESERVE)
        with tmpfs(ward.state, _PARTITION):
            for done in range(run.runs):
                ward.planted = run.fault
                failures += await _once(ward, run)
                if failures:
                    break
                run.progress(done + 1)
            if run.fault is None:
                failures += await ward.verdict()
        return Found(failures, {"acknowledged": len(ward.crowd.acknowledged)})


def _run(run: Run) -> Found:
    return asyncio.run(_fills(run))


register(
    Experiment(
        id="R-06",
        name="disk-full",
        target="routine 5.03 with Max-Age, emergencies until the reserve is spent, deletes always; "
        "no crash, starts full; back <= 5 s; 0 lost",
        unit="full disks",
        short=1,
        long=50,
        run=_run,
        faults={
            "no_reserve": "routine may use what is kept for emergencies",
            "no_ballast": "nothing is kept back for deletes",
        },
        fault_runs=1,
        needs=no_tmpfs,
    )
)
