"""Messages that come up to ten times, out of order, and minutes late.

A whole gateway in virtual time. Each message is a pack of its own. What tells a repetition from a
new measurement is the exchange, for EXCHANGE_LIFETIME (RFC 7252 section 4.8.2: 247 s), and for as
long as one likes what the pack itself says (``boot`` and ``seq``); so half of the packs say it, and
are delayed by up to 250 s, and the others by up to 240 s.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import cbor2

from gateway.coap.exchanges import Exchanges, New
from gateway.coap.message import decode_untrusted
from gateway.coap.numbers import EXCHANGE_LIFETIME, Code
from gateway.ingress import driver
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hand import Hand, request
from tests.experiments.rigs.virtual import in_memory, play

if TYPE_CHECKING:
    from tests.experiments.rigs.virtual import Inside

_NODES: Final = 10
_COPIES: Final = 10
_WINDOW: Final = 32
_BURST_S: Final = 2.0
"""What is sent within it may come out of order."""
_LATEST_S: Final = (240.0, 250.0)
"""Of a pack without and with an identity of its own."""
_PER_S: Final = 10.0
"""New messages of a node."""


async def _node(inside: Inside, number: int, count: int, seed: int) -> tuple[int, list[str]]:
    """How many datagrams it has sent that the gateway can open, and what went wrong."""
    chance = random.Random(f"{seed} {number}")
    hand = await Hand.open(inside, f"d{number}")
    began = asyncio.get_running_loop().time()
    plan: list[tuple[float, int, bytes]] = []
    for mid in range(count):
        named = mid % 2
        records: list[dict[int, Any]] = [{0: "probe", 2: number * 100_000 + mid}]
        records += [{0: "boot", 2: 1}, {0: "seq", 2: mid}] if named else []
        message = request(Code.POST, ("v",), mid, payload=cbor2.dumps(records))
        first = mid / _PER_S
        plan.append((first, mid, message))
        for _ in range(chance.randrange(_COPIES)):
            late = chance.choice((chance.uniform(0, 3), chance.uniform(0, _LATEST_S[named])))
            plan.append((first + late, mid, message))
    plan.sort()
    sent: Counter[int] = Counter()
    while plan:
        # Protected in this order, and then out of order by up to the window: the network.
        size = sum(at < plan[0][0] + _BURST_S for at, _, _ in plan[:_WINDOW])
        burst, plan = plan[:size], plan[size:]
        wire = [(hand.protect(message), mid) for _, mid, message in burst]
        chance.shuffle(wire)
        await asyncio.sleep(began + burst[-1][0] - asyncio.get_running_loop().time())
        for datagram, mid in wire:
            hand.write(datagram)
            sent[mid] += 1
            if chance.random() < 0.2:
                hand.write(datagram)  # which DTLS drops
    await asyncio.sleep(2)
    answers: dict[int, set[bytes]] = {}
    heard: Counter[int] = Counter()
    for one in hand.heard:
        mid = decode_untrusted(one).mid
        answers.setdefault(mid, set()).add(one)
        heard[mid] += 1
    hand.close()
    failures = [
        f"message {mid}: {len(each)} answers" for mid, each in answers.items() if len(each) > 1
    ]
    failures += [f"message {mid} was not answered" for mid in sent if not heard[mid]]
    wrong = {decode_untrusted(one).code for each in answers.values() for one in each}
    failures += [f"an answer of {code}" for code in wrong if code != Code.CHANGED]
    if hand.heard and heard.total() > sent.total():
        failures.append(f"{heard.total()} answers to {sent.total()} messages")
    return sent.total() - heard.total(), failures


def _run(run: Run) -> Found:
    each = max(1, run.runs // _NODES)
    failures: list[str] = []
    figures: dict[str, object] = {}

    async def scenario(inside: Inside) -> None:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, inside.remembered())
                await asyncio.sleep(5)

        watching = asyncio.create_task(watch())
        found = await asyncio.gather(
            *(_node(inside, number, each, run.seed) for number in range(_NODES))
        )
        watching.cancel()
        messages = inside.status()["messages"]
        unanswered = sum(missing for missing, _ in found)
        failures.extend(line for _, lines in found for line in lines)
        if messages["admitted"] != _NODES * each:
            failures.append(f"{messages['admitted']} rows of {_NODES * each} messages")
        if unanswered != messages.get("in_progress", 0):
            failures.append(
                f"{unanswered} copies without an answer, {messages.get('in_progress', 0)} of them "
                "came while the first was being stored"
            )
        # One that comes after its exchange, and says who it is, is remembered a second time.
        if most > _NODES * each + messages.get("repeated", 0):
            failures.append(f"{most} messages remembered")
        await asyncio.sleep(2 * EXCHANGE_LIFETIME + 5)
        if inside.remembered():
            failures.append(f"{inside.remembered()} messages remembered for ever")
        figures.update(
            {"replayed": messages.get("replayed", 0), "repeated": messages.get("repeated", 0)}
        )
        figures["remembered at most"] = most

    with _planted(run.fault), in_memory(run.folder) as folder:
        play(folder, _NODES, scenario)
    run.progress(run.runs)
    return Found(failures, figures)


def _planted(fault: str | None) -> Any:
    if fault == "no-deduplication":
        return mock.patch.object(Exchanges, "begin", return_value=New())
    if fault == "short-memory":
        return mock.patch.object(driver, "EXCHANGE_LIFETIME", 45.0)
    if fault == "answer-forgotten":
        return mock.patch.object(driver.Replay, "answer", b"")
    assert fault is None, fault
    return mock.patch.object(driver, "EXCHANGE_LIFETIME", EXCHANGE_LIFETIME)


register(
    Experiment(
        id="R-15",
        name="duplicates",
        target="messages doubled up to ten times, out of order by 32, late by up to 250 s: each is "
        "stored once, each copy gets the same answer, all are forgotten in the end",
        unit="messages",
        short=500,
        long=50_000,
        run=_run,
        faults={
            "no-deduplication": "every repetition is a new message",
            "short-memory": "exchanges live for MAX_TRANSMIT_SPAN only",
            "answer-forgotten": "a repetition is recognised and not answered",
        },
        fault_runs=60,
    )
)
