"""An emergency over a radio that loses a tenth of the datagrams, each way.

Nodes behind a relay (rigs/radio.py) and a whole gateway in virtual time: retransmission timers are
what is measured, so a thousand alarms take seconds. The latency is that of the node: from the first
sending to 2.04, which is after the disk.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Final
from unittest import mock

import cbor2

from gateway.coap.numbers import Code
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from gateway.node import link
from gateway.node.link import DEFAULT, URGENT, Link, LinkError, Transmission
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.radio import Profile, Relay
from tests.experiments.rigs.virtual import KEY, Inside, in_memory, play

if TYPE_CHECKING:
    from collections.abc import Iterator

_NODES: Final = 40
_PAUSE_S: Final = 30.0
"""Between two alarms of a node: far below what is limited."""
_RADIO: Final = Profile(loss=0.10, delay=0.02, jitter=0.01)
_LIMITS_S: Final = {"default": 10.0, "tuned": 2.0}


async def _alarms(
    inside: Inside, how: Transmission, count: int, seed: int
) -> tuple[list[float], int]:
    """Latencies in seconds, and how many were not acknowledged."""
    relay = await Relay.open(("127.0.0.1", 0), ("127.0.0.1", inside.port), _RADIO, seed)
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    missed = 0

    async def node(number: int) -> None:
        nonlocal missed
        chance = random.Random(f"{seed} {number}")
        engines = OpensslClient(f"d{number}".encode(), KEY, psk_suites())
        opened: Link | None = None
        for alarm in range(count // _NODES):
            await asyncio.sleep(chance.uniform(0, _PAUSE_S))
            while opened is None:
                try:
                    opened = await Link.shake_hands(
                        "127.0.0.1", relay.port, engines, loss=0, chance=chance, transmission=how
                    )
                except LinkError:
                    continue
            pack = cbor2.dumps([{0: "fall", 4: True}, {0: "boot", 2: 1}, {0: "seq", 2: alarm}])
            began = loop.time()
            try:
                answer = await opened.request(Code.POST, ("a",), payload=pack, content_format=112)
            except LinkError:
                missed += 1
            else:
                assert answer.code == Code.CHANGED, answer
                latencies.append(loop.time() - began)
        if opened is not None:
            opened.close()

    await asyncio.gather(*(node(number) for number in range(_NODES)))
    relay.close()
    return sorted(latencies), missed


def _run(run: Run) -> Found:
    failures: list[str] = []
    figures: dict[str, object] = {}
    with _planted(run.fault), in_memory(run.folder) as folder:
        # The tuned timers find either fault.
        for name, how in (("default", DEFAULT), ("tuned", URGENT))[run.fault is not None :]:
            (latencies, missed), _ = play(
                folder, _NODES, lambda inside, how=how: _alarms(inside, how, run.runs, run.seed)
            )
            run.progress(run.runs)
            p99 = latencies[int(0.99 * len(latencies))]
            figures |= {
                f"{name} p50": f"{latencies[len(latencies) // 2]:.2f} s",
                f"{name} p99": f"{p99:.2f} s",
                f"{name} max": f"{latencies[-1]:.1f} s",
                f"{name} given up": missed,
            }
            limit = _LIMITS_S[name]
            late = missed + sum(latency > limit for latency in latencies)
            # Time is virtual, but a short run is a small sample: three standard deviations.
            allowed = run.runs / 100 + (0 if run.long else 3 * math.sqrt(run.runs / 100))
            if late > allowed:
                failures.append(f"{name}: {late} of {run.runs} took more than {limit:.0f} s")
    return Found(failures, figures)


def _planted(fault: str | None) -> mock._patch[object]:
    def once(self: Link) -> Iterator[float]:
        yield self._transmission.ack_timeout_s

    def slow(self: Link) -> Iterator[float]:
        patience = 2 * link.ACK_TIMEOUT
        for _ in range(self._transmission.max_retransmit + 1):
            yield patience
            patience *= 2

    if fault == "no-retransmission":
        return mock.patch.object(Link, "_waits", once)
    if fault == "late-timers":
        return mock.patch.object(Link, "_waits", slow)
    return mock.patch.object(Link, "_waits", Link._waits)


register(
    Experiment(
        id="L-03",
        name="alarm-over-radio",
        target="10 % loss each way: default CoAP timers p99 <= 10 s; ACK_TIMEOUT 1 s and a repeat "
        "after 250 ms p99 <= 2 s",
        unit="alarms each",
        short=300,
        long=20_000,
        run=_run,
        faults={
            "no-retransmission": "the node sends an alarm once",
            "late-timers": "the node's first retransmission comes after twice the time",
        },
        fault_runs=120,
    )
)
