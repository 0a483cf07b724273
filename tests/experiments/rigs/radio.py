"""A lossy radio between nodes and a gateway: a relay for UDP, as a border router with many nodes.

Each client address gets a socket of its own towards the gateway, which so sees distinct peers. What
the air does to a datagram is decided by a seeded generator for each direction, in the order of
arrival; time is the event loop's, so the same relay runs in real time, as a process of its own
between network namespaces, and in virtual time (:mod:`tests.experiments.rigs.virtual`).

    python -m tests.experiments.rigs.radio LISTEN UPSTREAM PROFILE SEED

LISTEN and UPSTREAM are HOST:PORT, PROFILE is the profile as JSON. It prints ``ready``, and its
counters as JSON when its standard input ends.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

REORDER_WINDOW: Final = 32
_HELD_S: Final = 1.0
"""What is to be overtaken goes after so long even if nothing comes to overtake it."""
_QUEUE_S: Final = 2.0
"""A radio's queue: what would wait longer for its turn is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the air does, in each direction. Shares from 0 to 1, times in seconds."""

    loss: float = 0.0
    """In the good state."""
    bad_loss: float = 0.0
    """In the bad state of a Gilbert-Elliott channel."""
    to_bad: float = 0.0
    to_good: float = 1.0
    """Chance of a change of state, with each datagram."""
    delay: float = 0.0
    jitter: float = 0.0
    """Evenly to either side of the delay."""
    duplicates: float = 0.0
    reordered: float = 0.0
    """Share that up to 32 later datagrams overtake."""
    outage_at: float = float("inf")
    outage_s: float = 0.0
    """Nothing passes from this time on (since the relay began), for so long."""
    bits_per_s: float = 0.0
    """Shared by both directions, as a radio channel is; 0: no limit."""


P1 = Profile(loss=0.02, delay=0.02, jitter=0.01, bits_per_s=250_000)
P2 = Profile(loss=0.10, delay=0.08, jitter=0.04, bits_per_s=250_000)
P3 = Profile(
    # 0.05 and 0.65, a quarter of the time in the bad state: 0.2, in bursts of four.
    loss=0.05,
    bad_loss=0.65,
    to_bad=1 / 12,
    to_good=1 / 4,
    delay=0.2,
    jitter=0.15,
    duplicates=0.05,
    reordered=0.10,
    bits_per_s=250_000,
)


def outage(at: float, seconds: float) -> Profile:
    """P4."""
    return Profile(
        loss=0.02,
        delay=0.02,
        jitter=0.01,
        outage_at=at,
        outage_s=seconds,
        bits_per_s=250_000,
    )


class Air:
    """When the channel is free: a token bucket, shared by both directions."""

    def __init__(self, bits_per_s: float) -> None:
        self._bits_per_s = bits_per_s
        self._free_at = 0.0

    def take(self, size: int, now: float) -> float | None:
        """When a datagram of so many bytes has been sent; None: its queue is full."""
        if not self._bits_per_s:
            return now
        start = max(self._free_at, now)
        if start - now > _QUEUE_S:
            return None
        self._free_at = start + size * 8 / self._bits_per_s
        return self._free_at


class Channel:
    """One direction: :meth:`offer` datagrams, :meth:`due` gives those that have arrived."""

    def __init__(self, profile: Profile, air: Air, chance: random.Random, began: float) -> None:
        self._profile = profile
        self._air = air
        self._chance = chance
        self._outage = (began + profile.outage_at, began + profile.outage_at + profile.outage_s)
        self._bad = False
        self._numbers = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._held: list[list[object]] = []
        self.counts: Counter[str] = Counter()
        self.delays_s = 0.0
        """Of all that was sent, together."""

    def offer(self, size: int, deliver: Callable[[], None], now: float) -> None:
        """A datagram of ``size`` bytes has come; ``deliver`` sends it on."""
        profile, chance = self._profile, self._chance
        self.counts["received"] += 1
        if chance.random() < (profile.to_good if self._bad else profile.to_bad):
            self._bad = not self._bad
        lost = chance.random() < (profile.bad_loss if self._bad else profile.loss)
        sent_at = self._air.take(size, now)  # what is lost has taken the air's time all the same
        passed = [self._overtaken(one) for one in self._held]
        self._held = [one for one, done in zip(self._held, passed, strict=True) if not done]
        if sent_at is None:
            self.counts["queue_full"] += 1
        elif lost or self._outage[0] <= now < self._outage[1]:
            self.counts["lost"] += 1
        elif chance.random() < profile.reordered:
            self.counts["reordered"] += 1
            behind = chance.randint(1, REORDER_WINDOW)
            # After ``behind`` others, which :meth:`_overtaken` counts, or when it has waited.
            entry = self._push(sent_at + _HELD_S, now, deliver)
            self._held.append([behind, entry, now])
        else:
            copies = 1 + (chance.random() < profile.duplicates)
            self.counts["doubled"] += copies - 1
            for _ in range(copies):
                wait = profile.delay + chance.uniform(-profile.jitter, profile.jitter)
                self._push(sent_at + wait, now, deliver)

    def _push(
        self, due: float, now: float, deliver: Callable[[], None]
    ) -> tuple[float, int, Callable[[], None]]:
        def send() -> None:
            self.counts["sent"] += 1
            self.delays_s += due - now
            deliver()

        entry = (due, next(self._numbers), send)
        heapq.heappush(self._heap, entry)
        return entry

    def _overtaken(self, held: list[object]) -> bool:
        """Another has come: whether this was the last that was to overtake."""
        held[0] -= 1  # type: ignore[operator]
        if held[0] or held[1] not in self._heap:
            return held[1] not in self._heap
        _, number, send = held[1]  # type: ignore[misc]
        self._heap.remove(held[1])  # type: ignore[arg-type]
        heapq.heapify(self._heap)
        last = max((due for due, _, _ in self._heap), default=held[2])
        heapq.heappush(self._heap, (last, number, send))  # type: ignore[arg-type, has-type]
        return True

    def due(self, now: float) -> float | None:
        """Deliver what is due; when the next is, None for nothing."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        return self._heap[0][0] if self._heap else None


class Relay:
    """Make it with :meth:`open`. Up is from the nodes to the gateway."""

    def __init__(self, profile: Profile, seed: int, upstream: tuple[str, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._upstream = upstream
        began = self._loop.time()
        air = Air(profile.bits_per_s)
        self.up = Channel(profile, air, random.Random(f"{seed} up"), began)
        self.down = Channel(profile, air, random.Random(f"{seed} down"), began)
        self.arrivals: list[float] = []
        """When each datagram of a node came."""
        self._peers: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._early: dict[tuple[str, int], list[bytes]] = {}
        self._making: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, listen: tuple[str, int], upstream: tuple[str, int], profile: Profile, seed: int
    ) -> Relay:
        relay = cls(profile, seed, upstream)
        relay._transport, _ = await relay._loop.create_datagram_endpoint(
            lambda: _Side(relay.from_node), local_addr=listen
        )
        return relay

    @property
    def port(self) -> int:
        """Where nodes send to."""
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def from_node(self, datagram: bytes, node: tuple[str, int]) -> None:
        self.arrivals.append(self._loop.time())
        self._offer(self.up, len(datagram), lambda: self._upwards(datagram, node))

    def from_gateway(self, datagram: bytes, node: tuple[str, int]) -> None:
        self._offer(self.down, len(datagram), lambda: self._transport.sendto(datagram, node))

    def _upwards(self, datagram: bytes, node: tuple[str, int]) -> None:
        transport = self._peers.get(node)
        if transport is not None:
            transport.sendto(datagram)
            return
        waiting = self._early.setdefault(node, [])
        waiting.append(datagram)
        if len(waiting) == 1:
            task = self._loop.create_task(self._connect(node))
            self._making.add(task)
            task.add_done_callback(self._making.discard)

    async def _connect(self, node: tuple[str, int]) -> None:
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Side(lambda datagram, _: self.from_gateway(datagram, node)),
            remote_addr=self._upstream,
        )
        self._peers[node] = transport
        for datagram in self._early.pop(node):
            transport.sendto(datagram)

    def _offer(self, channel: Channel, size: int, deliver: Callable[[], None]) -> None:
        channel.offer(size, deliver, self._loop.time())
        self._turn()

    def _turn(self) -> None:
        now = self._loop.time()
        times = [when for one in (self.up, self.down) if (when := one.due(now)) is not None]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(times), self._turn) if times else None

    def counts(self) -> dict[str, dict[str, int]]:
        """What became of the datagrams of each direction."""
        return {"up": dict(self.up.counts), "down": dict(self.down.counts)}

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for transport in (self._transport, *self._peers.values()):
            transport.close()


class _Side(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, addr)


async def _serve(listen: str, upstream: str, profile: str, seed: str) -> None:
    places = [place.rpartition(":") for place in (listen, upstream)]
    (here, _, port), (there, _, to_port) = places
    how = Profile(**json.loads(profile))
    relay = await Relay.open((here, int(port)), (there, int(to_port)), how, int(seed))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    relay.close()
    sys.stdout.write(json.dumps(relay.counts()) + "\n")


def arguments(profile: Profile) -> str:
    """PROFILE of the command line."""
    return json.dumps(asdict(profile))


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
