"""Bracelets that go on whatever becomes of their gateway, and the oracle of what they were told.

Each sends one pack after the other, every eighth an emergency. One whose answer was lost sends that
pack first when it has a gateway again, as a node does. The oracle: what was acknowledged is in the
cloud store or the outbox, nothing is there that nobody sent, nothing twice, and each device's
packs of a lane stand in the order in which it sent them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from gateway.coap.numbers import Code
from gateway.lane import Lane
from gateway.node.link import LinkError
from gateway.reader import profile
from gateway.reader.opening import Opening
from gateway.reader.pages import Item

if TYPE_CHECKING:
    from gateway.coap.message import Message
    from gateway.node.link import Link
    from tests.acceptance.flood import Key
    from tests.acceptance.ward import Device, Ward
    from tests.experiments.rigs.cloud_stub import Stub

_BOOT = 1
_EVERY = 8
_PATHS = {Lane.ROUTINE: "v", Lane.EMERGENCY: "a"}
_READERS = {Lane.ROUTINE: "doctor", Lane.EMERGENCY: "alarm-centre"}


def lane_of(seq: int) -> Lane:
    """Of a pack of this crowd."""
    return Lane.ROUTINE if seq % _EVERY else Lane.EMERGENCY


class Crowd:
    """So many devices, each with a patient of its own and one association at a time."""

    def __init__(self, ward: Ward, count: int) -> None:
        """Before the gateway starts. They are not held to a rate."""
        ward.environment["WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S"] = "0"
        self._ward = ward
        self._devices: list[Device] = [ward.enter(f"b{number}") for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._next = dict.fromkeys(range(count), 0)
        self.acknowledged: set[Key] = set()
        self.sent: set[Key] = set()
        self.heard = asyncio.Event()
        """Somebody has been acknowledged; whoever waits for it clears it."""
        self.first = 0.0
        """Monotonic seconds of the first acknowledgement since :meth:`go`."""
        self.last = dict.fromkeys(range(count), 0.0)
        """Of each device's last one."""

    def go(self) -> None:
        """Shake hands and send, until :meth:`stop`."""
        self.first = 0.0
        self._tasks = [asyncio.create_task(self._live(at)) for at in range(len(self._devices))]

    async def stop(self) -> None:
        """At once, without a goodbye. What was under way will be sent again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _live(self, place: int) -> None:
        while True:
            # What refuses or ends an association is met by a new one.
            with contextlib.suppress(LinkError):
                link = await self._ward.link(self._devices[place])
                await self._send(place, link)
            await asyncio.sleep(0.05)

    async def _send(self, place: int, link: Link) -> None:
        while True:
            answer = await self.ask(place, link, lane_of(self._next[place]))
            if answer.code != Code.CHANGED:
                await asyncio.sleep(0.02)

    async def ask(self, place: int, link: Link, lane: Lane, padding: int = 0) -> Message:
        """The next pack of a device, or that which was not acknowledged; the answer is 2.04 or
        5.03. ``padding``: bytes that make it larger. Raises LinkError."""
        seq = self._next[place]
        key = (self._devices[place].id, _BOOT, seq)
        pack = f'[{{"n":"hr","v":71}},{{"n":"boot","v":{_BOOT}}},{{"n":"seq","v":{seq}}}'
        pack += f',{{"n":"note","vs":"{"y" * padding}"}}]' if padding else "]"
        self.sent.add(key)
        answer = await link.request(
            Code.POST, [_PATHS[lane]], payload=pack.encode(), content_format=110
        )
        if answer.code == Code.CHANGED:
            self.last[place] = time.monotonic()
            self.first = self.first or self.last[place]
            self.acknowledged.add(key)
            self._next[place] = seq + 1
            self.heard.set()
        else:
            assert answer.code == Code.SERVICE_UNAVAILABLE, answer
        return answer

    async def links(self) -> list[Link]:
        """Of every device, for whoever sends by :meth:`ask`."""
        return await asyncio.gather(*(self._ward.link(one) for one in self._devices))


def compare(crowd: Crowd, ward: Ward, stub: Stub) -> list[str]:
    """What is wrong with what the stub has kept, every record opened by its reader. Call it when
    the outbox is empty. The stub has to keep (:attr:`Stub.keeps`)."""
    openings = {}
    for lane, name in _READERS.items():
        who = profile.load(ward.folder / "recipients" / name)
        openings[lane] = Opening(who.load_authority(), who.load_sealing_key())
    places: dict[Key, int] = {}
    doubled = disordered = 0
    last: dict[tuple[str, Lane], int] = {}
    for cursor, (header, record) in enumerate(stub.kept):
        opening = openings[header.lane]
        if opening.needs(header.epoch):
            opening.learn(header.epoch, stub.envelopes.get(header.epoch))
        opened = opening.open(Item(cursor, "gateway", header, record))
        values = {one.name.rpartition("/")[2]: one.value for one in opened.records or ()}
        seq = int(values["seq"] or 0)
        key = (opened.device, int(values["boot"] or 0), seq)
        doubled += key in places
        places[key] = cursor
        disordered += last.get((opened.device, header.lane), -1) > seq
        last[opened.device, header.lane] = seq
    lost, invented = crowd.acknowledged - places.keys(), places.keys() - crowd.sent
    found = {
        f"of {len(crowd.acknowledged)} acknowledged packs are lost": len(lost),
        "packs are in the cloud store that nobody sent": len(invented),
        "packs are in the cloud store twice": doubled,
        "packs stand before an earlier one of their device": disordered,
    }
    return [f"{count} {what}" for what, count in found.items() if count] + stub.wrong[:3]
