"""R-04: the order of a gateway's system calls: sync before the answer, the 2xx before the delete.

The whole gateway under strace. First the cloud store is away: one request at a time, then bursts of
ten nodes at once, every fourth an emergency. An answer may be sent when its record's sync has
returned: after each transaction the mark beside the outbox says in clear how many rows it has, and
how many are removed, so the answers sent so far must be at most the rows that are synced. Then the
store comes up. It notes how many records it has confirmed, a moment before it says so; what the
outbox removes must never be more.
"""

from __future__ import annotations

import asyncio
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gateway.coap.numbers import Code
from tests.acceptance.ward import Device, Ward, a_ward, until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs import calls
from tests.experiments.rigs.cloud_stub import Request, Stub, http

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.lane import Lane
    from gateway.node.link import Link

_NODES = 10
_PACK = b'[{"n":"hr","u":"1/min","v":72},{"n":"spo2","u":"/100","v":97}]'
_MARK = struct.Struct("<8sQQ")
_STORE_S = 0.05
"""What the cloud store takes to answer: time for a gateway that does not wait to be caught."""


class _Seen(NamedTuple):
    """From outside."""

    nodes_began: float
    """Wall seconds; from then on every datagram of the gateway is an answer."""

    acknowledged: int
    repeated: int
    """Answers that were sent again, for a node that did not get them in time."""

    confirmed: list[tuple[float, int]]
    """Wall seconds, and how many records the cloud store had confirmed from then on."""


async def _nodes(ward: Ward, devices: list[Device], requests: int) -> tuple[float, int]:
    links = [await ward.link(device) for device in devices]
    for link in links:  # what the gateway still had to say of its handshake is said before this
        await link.request(Code.GET, ["time"])
    began, done = time.time(), 0

    async def ask(link: Link, n: int) -> bool:
        path = "a" if n % 4 == 0 else "v"
        answer = await link.request(Code.POST, [path], payload=_PACK, content_format=110)
        return answer.code == Code.CHANGED

    for n in range(requests // 2):
        done += await ask(links[n % _NODES], n)
    for n in range(requests // 2, requests, _NODES):
        burst = links[: requests - n]
        done += sum(await asyncio.gather(*(ask(link, n) for n, link in enumerate(burst))))
    await ward.close_links()
    return began, done


async def _store(ward: Ward) -> list[tuple[float, int]]:
    confirmed: list[tuple[float, int]] = []
    taken = 0

    async def slowly(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        body = stub.store(request)
        await asyncio.sleep(_STORE_S)
        taken += len(stub.ids(request))
        confirmed.append((time.time(), taken))
        writer.write(http(200, body))

    def answer(lane: Lane, ids: list[bytes]) -> object:
        return slowly

    stub = Stub(ward.folder)
    stub.port = ward.port_base + 3
    stub.answer = answer  # type: ignore[assignment]
    async with stub:
        await asyncio.to_thread(ward.delivered)
    return confirmed


def _watch(run: Run) -> tuple[_Seen, list[calls.Call]]:
    log = run.folder / "calls"
    with a_ward(run.folder) as ward:
        ward.make()
        ward.environment["WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S"] = "0"
        ward.planted, ward.under = run.fault, calls.under(log)
        devices = [ward.enter(f"bracelet-{n}") for n in range(_NODES)]
        ward.start_gateway()
        began, acknowledged = asyncio.run(_nodes(ward, devices, run.runs))
        run.progress(run.runs)
        repeated = ward.status()["messages"].get("replayed", 0)
        confirmed = asyncio.run(_store(ward))
        ward.stop_gateway()
        assert ward.gateway is not None
        until(partial(calls.whole, log, ward.gateway.pid))
    return _Seen(began, acknowledged, repeated, confirmed), list(calls.read(log))


def _run(run: Run) -> Found:
    seen, made = _watch(run)
    failures = []
    if seen.acknowledged != run.runs:
        failures.append(f"{seen.acknowledged} of {run.runs} requests were acknowledged")
    answers, early, syncs = _answers(seen, made)
    removed, hasty = _removals(seen, made)
    if answers < run.runs or removed < run.runs:
        failures.append(f"only {answers} answers and {removed} removals were seen")
    failures += early[:1] + hasty[:1]
    figures = {"answers": answers, "syncs": syncs, "removed": removed, "repeated": seen.repeated}
    return Found(failures, figures)


def _answers(seen: _Seen, made: Iterable[calls.Call]) -> tuple[int, list[str], int]:
    """How many were sent, those sent before the sync of their record, how many syncs."""
    sent = syncs = 0
    clean = False
    """Whether everything in the log is synced."""
    synced: list[tuple[int, int]] = [(-1, 0)]
    """Place in the trace, and rows that were synced when it was reached."""
    early: list[str] = []
    for call in made:
        if call.file.endswith("-wal"):
            clean = call.name != "pwrite64" and call.result == 0
            syncs += clean
        elif call.file.endswith(".mark") and call.name == "pwrite64":
            if clean:
                synced.append((call.place, _MARK.unpack_from(call.data)[1]))
        elif call.name == "sendmmsg" and call.began >= seen.nodes_began:
            sent += call.result
            then = next(rows for place, rows in reversed(synced) if place < call.place)
            if sent - seen.repeated > then:
                early.append(f"answer {sent} was sent when {then} records were synced")
    return sent, early, syncs


def _removals(seen: _Seen, made: Iterable[calls.Call]) -> tuple[int, list[str]]:
    """How many rows were removed, and those removed before the cloud store confirmed them."""
    removed = 0
    writing: float | None = None
    written = 0.0
    """When the transaction under way, and when the last one that is synced, was begun."""
    hasty: list[str] = []
    for call in made:
        if call.file.endswith("-wal"):
            if call.name == "pwrite64":
                writing = call.began if writing is None else writing
            elif writing is not None:
                written, writing = writing, None
        elif call.file.endswith(".mark") and call.name == "pwrite64":
            before, removed = removed, _MARK.unpack_from(call.data)[2]
            then = max((count for at, count in seen.confirmed if at <= written), default=0)
            if before < removed and removed > then:
                hasty.append(f"{removed} records were removed when {then} were confirmed")
    return removed, hasty


register(
    Experiment(
        id="R-04",
        name="order-of-calls",
        target="every answer after the sync of its record, every delete after its 2xx",
        unit="requests",
        short=100,
        long=1000,
        run=_run,
        faults={
            "synchronous_normal": "the outbox does not wait for the disk",
            "answer_before_commit": "a node is answered when its record is queued",
            "settle_before_answer": "records count as delivered when they are sent",
        },
        fault_runs=20,
        needs=calls.missing,
    )
)
