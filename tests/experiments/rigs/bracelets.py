"""Bracelets of this process at a real gateway, and whether the cloud store has what they sent."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from gateway.coap.numbers import Code
from gateway.lane import Lane
from gateway.reader import profile
from gateway.reader.opening import Opening
from gateway.reader.pages import Item
from tests.acceptance.flood import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.node.link import Link
    from tests.acceptance.flood import Key
    from tests.acceptance.ward import Device, Ward
    from tests.experiments.rigs.cloud_stub import Stub

_PATHS = {Lane.ROUTINE: "v", Lane.EMERGENCY: "a"}


class Bracelets:
    """So many devices, each with a patient of its own and one association at a time."""

    def __init__(self, ward: Ward, count: int) -> None:
        """Before the gateway starts. They are not held to a rate."""
        ward.environment["WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S"] = "0"
        self._ward = ward
        self._devices: list[Device] = [ward.enter(f"b{number}") for number in range(count)]
        self._links: list[Link] = []
        self._next = dict.fromkeys(range(count), 0)
        self._boot = int.from_bytes(os.urandom(3))
        self.acknowledged: list[Key] = []
        self.at: list[float] = []
        """Monotonic seconds of each acknowledgement."""
        self.took: list[float] = []
        """Seconds from the request to it."""

    async def connect(self) -> None:
        """Shake hands; what there was before is forgotten, with a goodbye."""
        await self.close()
        self._links = await asyncio.gather(*(self._ward.link(one) for one in self._devices))

    async def visit(self, device: Device) -> None:
        """Another one comes for a moment and goes again."""
        link = await self._ward.link(device)
        answer = await link.request(Code.GET, ["time"])
        assert answer.code == Code.CONTENT, answer
        link.close()

    async def close(self) -> None:
        await self._ward.close_links()
        self._links = []

    async def send(self, count: int, lane: Lane) -> None:
        """``count`` packs, shared out, each bracelet's one after the other; all acknowledged."""
        shares = [
            count // len(self._links) + (place < count % len(self._links))
            for place in range(len(self._links))
        ]
        await asyncio.gather(
            *(self._send(place, share, lane) for place, share in enumerate(shares))
        )

    async def _send(self, place: int, count: int, lane: Lane) -> None:
        for _ in range(count):
            seq = self._next[place]
            self._next[place] += 1
            pack = f'[{{"n":"hr","v":71}},{{"n":"boot","v":{self._boot}}},{{"n":"seq","v":{seq}}}]'
            began = time.monotonic()
            answer = await self._links[place].request(
                Code.POST, [_PATHS[lane]], payload=pack.encode(), content_format=110
            )
            assert answer.code == Code.CHANGED, answer
            self.acknowledged.append((self._devices[place].id, self._boot, seq))
            self.at.append(time.monotonic())
            self.took.append(self.at[-1] - began)


def lost_or_doubled(acknowledged: list[Key], ward: Ward, stub: Stub) -> list[str]:
    """What was acknowledged beside what the stub kept, every record opened by its reader."""
    missing, doubled = compare(acknowledged, _keys(ward, stub))
    failures = []
    if missing:
        failures.append(f"{len(missing)} of {len(acknowledged)} acknowledged packs are lost")
    if doubled:
        failures.append(f"{len(doubled)} packs are in the cloud store twice")
    return failures


def _keys(ward: Ward, stub: Stub) -> Iterator[Key]:
    openings = {}
    for lane, name in ((Lane.ROUTINE, "doctor"), (Lane.EMERGENCY, "alarm-centre")):
        who = profile.load(ward.folder / "recipients" / name)
        openings[lane] = Opening(who.load_authority(), who.load_sealing_key())
    for cursor, (header, record) in enumerate(stub.kept):
        opening = openings[header.lane]
        if opening.needs(header.epoch):
            opening.learn(header.epoch, stub.envelopes.get(header.epoch))
        opened = opening.open(Item(cursor, "gateway", header, record))
        values = {one.name.rpartition("/")[2]: one.value for one in opened.records or ()}
        yield opened.device, int(values["boot"] or 0), int(values["seq"] or 0)


class Memory(NamedTuple):
    """Of a process, as the kernel counts it."""

    resident: int
    """Bytes."""
    descriptors: int


def memory(pid: int) -> Memory:
    """Now."""
    with open(f"/proc/{pid}/statm") as file:
        pages = int(file.read().split()[1])
    return Memory(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")))
