"""Registrations without end (RFC 7641): capped a peer, gone with their observer.

Two halves. The running gateway has nothing that can be observed, so there a registration must be a
plain reading that leaves nothing behind. The lane itself, with a resource that can be observed, is
attacked in memory, where an observer's death takes no time.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING
from unittest.mock import patch

import aiocoap
from aiocoap.protocol import Context
from aiocoap.resource import ObservableResource
from aiocoap.tokenmanager import TokenManager

from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import MAX_TRANSMIT_WAIT, Code, Option, Type
from gateway.endpoint import Endpoint
from gateway.ingress import aiocoap_lane
from gateway.ingress.aiocoap_lane import AiocoapLane
from gateway.ingress.guard import Config
from gateway.ingress.resources import Resource
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import CBOR, GOOD
from tests.unit.ingress.bench import Clock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults

_PEERS = 10
_CAP = Config().observations
_SLACK_KIB = 16 << 10
_TURNS = 12
"""Of the event loop, after which nothing is ready any more."""


class _Gauge(Resource, ObservableResource):  # type: ignore[misc]
    """Changes when the test says so."""

    def __init__(self) -> None:
        super().__init__({Code.GET: self._get})

    async def _get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=Code.CONTENT, payload=b"1")


class _Nowhere:
    """No telemetry is sent here."""

    async def admit(self, *_: object) -> None:
        raise AssertionError


class _Lane:
    """The lane of the full implementation with a gauge, its peers, and time that can be moved."""

    def __init__(self) -> None:
        self.clock = Clock(1_800_000_000.0)
        self.gauge = _Gauge()
        self._sent: list[tuple[Endpoint, bytes]] = []
        self.lane = AiocoapLane(
            lambda endpoint, datagram: self._sent.append((endpoint, datagram)),
            _Nowhere(),
            self.clock,
            Config(rate_per_s=0.0),
            {("gauge",): self.gauge},
        )
        self._mid = 0

    async def heard(self) -> list[tuple[Endpoint, Message]]:
        """What the peers are sent now."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        sent, self._sent[:] = list(self._sent), []
        return [(endpoint, wire.decode_untrusted(one)) for endpoint, one in sent]

    async def register(self, endpoint: Endpoint, token: bytes) -> None:
        self._mid = (self._mid + 1) & 0xFFFF
        options = ((int(Option.OBSERVE), b""), (int(Option.URI_PATH), b"gauge"))
        asked = Message(Type.CON, Code.GET, self._mid, token, options)
        self.lane.receive(endpoint, wire.encode(asked), self.clock.now)
        for endpoint, answer in await self.heard():
            if answer.type is Type.CON:  # the gauge has not changed: nothing is to be told
                self.lane.receive(endpoint, wire.empty_ack(answer.mid), self.clock.now)

    async def told(self, kind: Type | None) -> list[tuple[int, bytes]]:
        """Associations and tokens that hear of a change, and answer by an ACK, a RST or not."""
        self.gauge.updated_state()
        found = set()
        while heard := await self.heard():
            for endpoint, one in heard:
                found.add((endpoint.association, one.token))
                if kind is not None:
                    answer = wire.reset(one.mid) if kind is Type.RST else wire.empty_ack(one.mid)
                    self.lane.receive(endpoint, answer, self.clock.now)
            if kind is None:
                break
        return sorted(found)

    async def outlived(self) -> None:
        """Every retransmission has been made, in vain."""
        loop = asyncio.get_running_loop()
        for _ in range(6):
            then = loop.time() + MAX_TRANSMIT_WAIT / 2
            loop.time = lambda then=then: then  # type: ignore[method-assign, misc]
            self.clock.now += MAX_TRANSMIT_WAIT / 2
            await self.heard()


async def _in_memory(run: Run) -> list[str]:
    chance = random.Random(run.seed)
    one = _Lane()
    await one.lane.start()
    failures = []
    peers = [Endpoint(number, f"d{number}") for number in range(_PEERS)]
    for kind, fate in ((Type.RST, "reset them"), (None, "do not answer")):
        for done in range(run.runs // 2):
            token = chance.choice((b"", b"same", chance.randbytes(chance.randrange(1, 9))))
            await one.register(chance.choice(peers), token)
            run.progress(done + 1)
        told = await one.told(Type.ACK)
        most = max(sum(number == peer.association for number, _ in told) for peer in peers)
        if most > _CAP:
            failures.append(f"a peer has {most} observations, not {_CAP}")
        if not told:
            failures.append("nobody may observe")
        await one.told(kind)
        if kind is None:
            await one.outlived()
        left = await one.told(Type.ACK)
        if left:
            failures.append(f"{len(left)} observers are told who {fate}")
    if sum(one.lane.in_hand(peer) for peer in peers):
        failures.append("something is still in hand")
    await one.lane.stop()
    return failures


def _over_sockets(run: Run) -> tuple[list[str], int]:
    """Registrations with what cannot be observed; KiB that the gateway has grown by."""
    failures = []
    chance = random.Random(run.seed)
    observe = ((int(Option.OBSERVE), b""),)
    with attacked(run, _FAULTS) as target:
        peer = target.peer()
        before = target.memory_kib()
        for done in range(run.runs):
            if done % 10:
                answer = peer.request("time", b"", None, code=Code.GET, more=observe)
            else:
                resource = chance.choice(("v", "a"))
                answer = peer.request(resource, GOOD, CBOR, more=observe)
            if answer.value(Option.OBSERVE) is not None or answer.code >> 5 != 2:
                failures.append(f"a registration was answered {answer}")
            run.progress(done + 1)
        peer.is_silent()
        grown = target.memory_kib() - before
    if grown > _SLACK_KIB:
        failures.append(f"memory grew by {grown} KiB")
    return failures, grown


def _run(run: Run) -> Found:
    if run.fault is not None:
        with _FAULTS[run.fault][1]():
            return Found(asyncio.run(_in_memory(run)), {})
    failures, grown = _over_sockets(run)
    return Found([*failures, *asyncio.run(_in_memory(run))], {"memory KiB": grown})


# -- faults


def _uncounted() -> AbstractContextManager[object]:
    return patch.object(aiocoap_lane._Context, "render_to_pipe", Context.render_to_pipe)


_FAULTS: Faults = {
    "no-cap": ("any number of observations a peer", _uncounted),
    "undead": (
        "what becomes of a notification is not looked at",
        lambda: patch.object(TokenManager, "dispatch_error", lambda *_: None),
    ),
}

register(
    Experiment(
        id="S-13",
        name="observe",
        target=(
            "at most 2 observations a peer; observers that reset or do not answer a Confirmable "
            "notification are gone after it; what cannot be observed leaves nothing behind"
        ),
        unit="registrations",
        short=100,
        long=10_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=60,
    )
)
