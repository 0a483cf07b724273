"""A flood of routine messages, and emergencies beside it, on real associations in this process."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, NamedTuple, cast

import cbor2

from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type
from gateway.lane import Lane
from gateway.node.link import Link
from tests.experiments.rigs.inside import CBOR, good, post
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.experiments.rigs.cloud_stub import Stub
    from tests.experiments.rigs.inside import Inside

ROUND = 5
"""Messages of each flooder in a turn of the loop, at first."""
_TURNS = 64
"""After so many without one that was shed, the next have twice as many messages."""


class Flooder(Link):
    """A node without patience: it sends on whatever is answered, and nothing twice."""

    sent = 0

    def pour(self, count: int) -> None:
        """So many packs, each a new one."""
        client = self._client
        assert client is not None
        options = ((int(Option.URI_PATH), b"v"), (int(Option.CONTENT_FORMAT), bytes((CBOR,))))
        for _ in range(count):
            self.sent += 1
            pack = good(boot=1, seq=self.sent)
            asked = Message(Type.CON, Code.POST, self.sent & 0xFFFF, b"", options, pack)
            client.send(message.encode(asked))
        self._flush(client)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Nobody looks at the answers."""


class Flood:
    """``async with``: it pours, in turns of the loop, until the end of the block."""

    def __init__(self, inside: Inside, devices: Sequence[str], *, pause_s: float = 0.0) -> None:
        self._inside = inside
        self._pause_s = pause_s
        self._devices = devices
        self._round = ROUND
        self.flooders: list[Flooder] = []

    async def __aenter__(self) -> Flood:
        for device in self._devices:
            link = await self._inside.link(device)
            link.__class__ = Flooder
            self.flooders.append(cast("Flooder", link))
        self._task = asyncio.create_task(self._pour())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _pour(self) -> None:
        for turn in itertools.count(1):
            for one in self.flooders:
                one.pour(self._round)
            await asyncio.sleep(self._pause_s)
            # How many the gateway takes in a turn is the host's business.
            if turn % _TURNS == 0 and not self._pause_s and not self.shed:
                self._round *= 2

    @property
    def sent(self) -> int:
        return sum(one.sent for one in self.flooders)

    @property
    def shed(self) -> int:
        """By the gateway."""
        count: int = self._inside.gateway.status()["messages"].get("shed", 0)
        return count


class Emergency(NamedTuple):
    """One, from the node's datagram on."""

    answered: float | None
    """Seconds until its 2.04; None: something else, or nothing."""
    uploaded: float | None
    """Seconds until its upload reached the cloud store."""


async def emergencies(
    stub: Stub, rounds: Iterable[Sequence[Link]], *, every_s: float, within_s: float
) -> list[Emergency]:
    """One of each node of a round, at once, every other of them declared. The next round when all
    have reached the cloud store, no sooner than ``every_s`` after the last. Ends early when one
    does not arrive."""
    found: list[Emergency] = []
    for links in rounds:
        before, began = len(_arrivals(stub)), time.monotonic()
        reports = [
            _report(link, within_s, declared=(len(found) + n) % 2 == 0)
            for n, link in enumerate(links)
        ]
        answered = await asyncio.gather(*reports)
        expected = before + len(links)
        whole = await until(lambda expected=expected: len(_arrivals(stub)) >= expected, within_s)
        arrived = _arrivals(stub)[before:]
        # All of a round began together: it does not matter which of them came first.
        uploaded = [at - began for at in arrived] + [None] * (len(links) - len(arrived))
        found += map(Emergency, answered, uploaded)
        if not whole:
            break
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - began)))
    return found


async def _report(link: Link, within_s: float, *, declared: bool) -> float | None:
    """Seconds until 2.04. Not ``declared``: an ordinary pack, in which triage has to find it."""
    began = time.monotonic()
    payload = cbor2.dumps([{-3: round(time.time(), 3), 0: "rhythm", 3: "VF"}])
    try:
        async with asyncio.timeout(within_s):
            taken = await post(link, "a" if declared else "v", payload)
    except TimeoutError:
        return None
    return time.monotonic() - began if taken else None


def _arrivals(stub: Stub) -> list[float]:
    return [at for _, lane, at in stub.order if lane is Lane.EMERGENCY]
