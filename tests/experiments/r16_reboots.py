"""Nodes that start again: same address, same first Message ID and token, new association.

A server that takes the address for the endpoint answers the new message with the old answer, and
the measurement is gone (plain aiocoap does, for 247 s). Both lanes are tried: the fast lane with
posts, the other with a read and with a body in blocks that the restart cuts in two.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import cbor2

from gateway.coap.numbers import Code
from gateway.dtls.handshake import Handshake
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hand import Hand, request
from tests.experiments.rigs.virtual import in_memory, play

if TYPE_CHECKING:
    from gateway.dtls.association import Association, Path
    from tests.experiments.rigs.virtual import Inside

_NODES: Final = 5
_POST, _READ, _BLOCKS = 1, 2, 3
"""Message IDs: the first ones of every start."""


async def _node(inside: Inside, number: int, starts: int) -> tuple[int, list[str]]:
    """How many measurements were taken, and what went wrong."""
    hand = await Hand.open(inside, f"d{number}")
    failures: list[str] = []
    taken = 0
    times: list[bytes] = []
    for start in range(starts):
        if start:
            await hand.shake_hands()
        # Every other start measures exactly what the one before did: new all the same.
        value = 60 + start // 2 % 40
        pack = cbor2.dumps([{0: "hr", 1: "1/min", 2: value}])
        answer = await hand.ask(request(Code.POST, ("v",), _POST, payload=pack))
        taken += 1
        if answer.code != Code.CHANGED:
            failures.append(f"start {start}: a post is answered {answer.code}")
        answer = await hand.ask(request(Code.GET, ("time",), _READ))
        if answer.payload in times:
            failures.append(f"start {start}: an old answer to a read")
        times.append(answer.payload)
        # A body of two blocks whose first the node has sent before it started again.
        body = cbor2.dumps([{0: f"probe{'x' * 80}", 2: start}])
        if start:
            answer = await hand.ask(_block(body, 1, _BLOCKS))
            if answer.code != Code.REQUEST_ENTITY_INCOMPLETE:
                failures.append(f"start {start}: half a body is answered {answer.code}")
            await hand.ask(_block(body, 0, _BLOCKS + 1))
            answer = await hand.ask(_block(body, 1, _BLOCKS + 2))
            taken += 1
            if answer.code != Code.CHANGED:
                failures.append(f"start {start}: a body in blocks is answered {answer.code}")
        answer = await hand.ask(_block(body, 0, _BLOCKS + 3))
        if answer.code != Code.CONTINUE:
            failures.append(f"start {start}: a first block is answered {answer.code}")
        await asyncio.sleep(2)
    hand.close()
    return taken, failures


def _block(body: bytes, number: int, mid: int) -> bytes:
    part = body[64 * number : 64 * number + 64]
    return request(
        Code.POST, ("v",), mid, payload=part, block=(number, 64 * number + 64 < len(body))
    )


def _run(run: Run) -> Found:
    failures: list[str] = []
    figures: dict[str, object] = {}

    async def scenario(inside: Inside) -> None:
        found = await asyncio.gather(
            *(_node(inside, number, run.runs // _NODES) for number in range(_NODES))
        )
        taken = sum(count for count, _ in found)
        failures.extend(line for _, lines in found for line in lines)
        status = inside.status()
        if status["messages"]["admitted"] != taken:
            failures.append(f"{status['messages']['admitted']} rows of {taken} measurements")
        if status["associations"] != _NODES:
            failures.append(f"{status['associations']} associations of {_NODES} nodes are left")
        figures.update({"measurements": taken, "rows": status["messages"]["admitted"]})

    with _planted(run.fault), in_memory(run.folder) as folder:
        play(folder, _NODES, scenario)
    run.progress(run.runs)
    return Found(failures, figures)


_associate = Handshake.associate


def _of_address(self: Handshake, number: int, path: Path, now: float) -> Association:
    return _associate(self, zlib.crc32(repr(path).encode()), path, now)


def _planted(fault: str | None) -> Any:
    if fault == "endpoint-is-address":
        return mock.patch.object(Handshake, "associate", _of_address)
    assert fault is None, fault
    return mock.patch.object(Handshake, "associate", _associate)


register(
    Experiment(
        id="R-16",
        name="reboots",
        target="nodes that start again with the same address, Message IDs and tokens: no "
        "measurement swallowed, no old answer, no half of an old body, on both lanes",
        unit="starts",
        short=100,
        long=5000,
        run=_run,
        faults={"endpoint-is-address": "exchanges are known by address, not by association"},
        fault_runs=20,
    )
)
