"""Many bracelets at once, and what came of their packs.

A bracelet keeps a pack until it is acknowledged: it repeats it over a new association when the
gateway has gone and come back. What is counted as acknowledged here is what the gateway has
promised to have on disk.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from gateway.coap.numbers import Code, Option, dotted
from gateway.dtls.engines.openssl import (
    OpensslCertifiedClient,
    OpensslClient,
    certificate_suites,
    psk_suites,
)
from gateway.node.bracelet import PERIOD_S, packs
from gateway.node.link import Link, LinkError, Transmission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dtls.client import ClientFactory
    from gateway.dtls.credentials import Identity
    from gateway.node.bracelet import Pack
    from gateway.node.link import Target
    from gateway.node.recording import Recording

_TRANSMISSION: Final = Transmission(max_retransmit=2)
"""Then the bracelet thinks that its association is gone and shakes hands again."""

_CATCH_UP: Final = 1.4
"""How much faster than usual a bracelet sends what it has kept while it was out of reach: a ward
comes back all at once, and the radio is there for what is new."""

_RECONNECT_S: Final = (0.2, 5.0)
"""Shortest and longest pause before a new handshake, doubled from one to the next."""

_PATIENCE_S: Final = 30.0
"""How long a bracelet goes on after the end to have its last packs acknowledged."""


class Node(NamedTuple):
    """A device as its own side knows it."""

    id: str
    proof: bytes | Identity
    """Its pre-shared key, or its certificate."""

    def engines(self) -> ClientFactory:
        """What its handshakes are made with; to be kept, for it is decoded here."""
        if isinstance(self.proof, bytes):
            return OpensslClient(self.id.encode(), self.proof, psk_suites())
        return OpensslCertifiedClient(self.proof, certificate_suites())


@dataclass(slots=True)
class Report:
    """What the fleet saw."""

    sent: int = 0
    """Packs begun; a repetition is not counted again."""
    acknowledged: int = 0
    handshakes: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """Codes of the answers that were not 2.04."""
    latencies_ms: list[float] = field(default_factory=list)
    """From the first sending to the acknowledgement."""
    failures: Counter[str] = field(default_factory=Counter)
    """Why associations ended."""


class Fleet:
    """Bracelets against one gateway.

    speed: seconds of recording for each second here. loss: share of datagrams lost each way.
    journal: one JSON line for each acknowledged pack. starts: where in its recording a bracelet
    begins, by its place in ``nodes``.
    """

    def __init__(
        self,
        target: Target,
        nodes: Sequence[Node],
        recordings: Sequence[Recording],
        *,
        speed: float,
        loss: float,
        seed: int,
        journal: IO[str] | None = None,
        starts: dict[int, float] | None = None,
    ) -> None:
        self._target = target
        self._nodes = nodes
        self._recordings = recordings
        self._speed = speed
        self._loss = loss
        self._seed = seed
        self._journal = journal
        self._starts = starts or {}
        self.report = Report()

    async def run(self, *, wall: float, duration_s: float | None) -> Report:
        """All bracelets for ``duration_s``, or until cancelled. wall: UTC seconds now.

        What each bracelet has begun by then it still tries to have acknowledged.
        """
        # The replay ends at the present: times of a fast one start in the past.
        origin = wall - (self._speed - 1) * (duration_s or 0.0)
        async with asyncio.TaskGroup() as group:
            for place, node in enumerate(self._nodes):
                group.create_task(self._bracelet(place, node, origin, duration_s))
        return self.report

    async def _bracelet(
        self, place: int, node: Node, origin: float, duration_s: float | None
    ) -> None:
        chance = random.Random(f"{self._seed} {node.id}")
        recording = self._recordings[place % len(self._recordings)]
        start = self._starts.get(place)
        if start is None:
            start = chance.uniform(0.0, recording.duration / 2)
        boot = int(origin)
        engines = node.engines()
        loop = asyncio.get_running_loop()
        began = loop.time()
        # Not all in the same instant, as no ward has it.
        lag = chance.uniform(0.0, 1.0 / self._speed)
        link: Link | None = None
        earliest = began
        for pack in packs(recording, start=start, origin=origin, boot=boot):
            due = pack.due / self._speed
            if duration_s is not None and due > duration_s:
                break
            await asyncio.sleep(max(began + due + lag, earliest) - loop.time())
            earliest = loop.time() + PERIOD_S / self._speed / _CATCH_UP
            self.report.sent += 1
            until = None if duration_s is None else began + duration_s + _PATIENCE_S
            link = await self._until_acknowledged(link, node.id, engines, pack, boot, chance, until)
            if until is not None and loop.time() > until:
                break
        if link is not None:
            link.close()

    async def _until_acknowledged(
        self,
        link: Link | None,
        device: str,
        engines: ClientFactory,
        pack: Pack,
        boot: int,
        chance: random.Random,
        until: float | None,
    ) -> Link | None:
        loop = asyncio.get_running_loop()
        first = loop.time()
        for tries in itertools.count():
            if until is not None and loop.time() > until:
                return link
            try:
                link = link or await self._connect(engines, chance)
                answer = await link.request(
                    Code.POST,
                    ("v",),
                    payload=pack.payload,
                    content_format=112,
                )
            except LinkError as error:
                self.report.failures[str(error)] += 1
                if link is not None:
                    link.close()
                    link = None
                await asyncio.sleep(min(_RECONNECT_S[0] * 2**tries, _RECONNECT_S[1]))
                continue
            if answer.code == Code.CHANGED:
                self._acknowledged(device, pack, boot, loop.time() - first)
                return link
            self.report.answers[dotted(answer.code)] += 1
            if answer.code not in (Code.SERVICE_UNAVAILABLE, Code.TOO_MANY_REQUESTS):
                return link
            await asyncio.sleep(answer.uint(Option.MAX_AGE) or 1.0)
        return link

    async def _connect(self, engines: ClientFactory, chance: random.Random) -> Link:
        link = await Link.shake_hands(
            self._target.host,
            self._target.port,
            engines,
            loss=self._loss,
            chance=chance,
            transmission=_TRANSMISSION,
        )
        self.report.handshakes += 1
        return link

    def _acknowledged(self, device: str, pack: Pack, boot: int, took_s: float) -> None:
        self.report.acknowledged += 1
        self.report.latencies_ms.append(took_s * 1000)
        if self._journal is not None:
            line = {"device": device, "boot": boot, "seq": pack.seq, "ms": round(took_s * 1000, 1)}
            self._journal.write(json.dumps(line) + "\n")
            self._journal.flush()
