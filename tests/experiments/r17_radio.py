"""Nodes behind a radio that loses, delays, doubles and reorders, and that is away for a minute.

The nodes, the relay (rigs/radio.py) and a whole gateway share an event loop in virtual time, so
that hours of radio take seconds. Beside it a gateway, the relay and other people's nodes (OpenSSL
by libcoap, tinydtls by aiocoap) run as processes in three network namespaces, in real time.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from unittest import mock

import cbor2

from gateway.coap.exchanges import Exchanges, New
from gateway.coap.numbers import MAX_TRANSMIT_WAIT, Code
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from gateway.dtls.handshake import DEADLINE_S
from gateway.node.fleet import Fleet, Node
from gateway.node.link import DEFAULT, URGENT, Link, LinkError, Transmission, parse_uri
from gateway.node.recording import load_all
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs import radio
from tests.experiments.rigs.namespaces import foreign_nodes
from tests.experiments.rigs.virtual import KEY, Inside, in_memory, play

if TYPE_CHECKING:
    from collections.abc import Iterator

_CELL: Final = 25
"""Nodes behind one border router: they share its 250 kbit/s."""
_REQUESTS: Final = 10
_PAUSE_S: Final = (2.0, 8.0)
_PROFILES: Final = {"P1": radio.P1, "P2": radio.P2, "P3": radio.P3}
_FLEET: Final = 12
_OUTAGE_AT_S: Final = 20.0
_WINDOW_S: Final = 5.0
_CHANNEL: Final = 20_000


@dataclass
class Seen:
    """What the nodes of one profile saw."""

    handshakes: int = 0
    slow: int = 0
    """Not done within the deadline."""
    sent: int = 0
    """Packs."""
    late: int = 0
    """Acknowledged after MAX_TRANSMIT_WAIT or never."""
    again: int = 0
    """Packs that were begun again in a new association: may be two measurements."""
    latencies: list[float] = field(default_factory=list)


class _Bracelet:
    """Sends packs, and sends one again over a new association when nobody answers."""

    def __init__(
        self, seen: Seen, port: int, number: int, how: Transmission, chance: random.Random
    ) -> None:
        self.seen, self.port, self.number = seen, port, number
        self.how, self.chance = how, chance
        self.engines = OpensslClient(f"d{number}".encode(), KEY, psk_suites())
        self.loop = asyncio.get_running_loop()
        self.link: Link | None = None

    async def shake_hands(self) -> Link:
        self.seen.handshakes += 1
        began = self.loop.time()
        while True:
            try:
                link = await Link.shake_hands(
                    "127.0.0.1",
                    self.port,
                    self.engines,
                    loss=0,
                    chance=self.chance,
                    transmission=self.how,
                )
            except LinkError:
                if self.loop.time() - began > 10 * DEADLINE_S:
                    self.seen.slow += 1
                    raise
                continue
            self.seen.slow += self.loop.time() - began > DEADLINE_S
            return link

    async def run(self, requests: int) -> None:
        await asyncio.sleep(self.chance.uniform(0, _PAUSE_S[1]))
        for seq in range(requests):
            try:
                await self._pack(seq)
            except LinkError:
                self.seen.late += 1
            await asyncio.sleep(self.chance.uniform(*_PAUSE_S))
        if self.link is not None:
            self.link.close()

    async def _pack(self, seq: int) -> None:
        records = [{0: "spo2", 1: "/100", 2: 97}, {0: "probe", 2: self.number * 1000 + seq}]
        if self.number % 2:  # the others' packs can be told apart by their exchange only
            records += [{0: "boot", 2: 1}, {0: "seq", 2: seq}]
        pack = cbor2.dumps(records)
        self.seen.sent += 1
        self.link = self.link or await self.shake_hands()
        began = self.loop.time()
        while True:
            try:
                answer = await self.link.request(
                    Code.POST, ("v",), payload=pack, content_format=112
                )
            except LinkError:
                self.link.close()
                self.link = None
                if self.loop.time() - began > 2 * MAX_TRANSMIT_WAIT:
                    raise
                self.seen.again += 1
                self.link = await self.shake_hands()
                continue
            assert answer.code == Code.CHANGED, answer
            took = self.loop.time() - began
            self.seen.latencies.append(took)
            self.seen.late += took > MAX_TRANSMIT_WAIT
            return


async def _profile(inside: Inside, name: str, numbers: range, seed: int, how: Transmission) -> Seen:
    seen = Seen()
    relays, nodes = [], []
    for first in range(numbers.start, numbers.stop, _CELL):
        relay = await radio.Relay.open(
            ("127.0.0.1", 0), ("127.0.0.1", inside.port), _PROFILES[name], seed + first
        )
        relays.append(relay)
        nodes += [
            _Bracelet(seen, relay.port, number, how, random.Random(f"{seed} {number}"))
            for number in range(first, min(first + _CELL, numbers.stop))
        ]
    await asyncio.gather(*(node.run(_REQUESTS) for node in nodes))
    for relay in relays:
        relay.close()
    return seen


async def _outage(inside: Inside, first: int, seconds: float, seed: int) -> tuple[float, int, int]:
    """P4, by the simulator's bracelets: the highest rate after the outage over that before, packs
    sent and acknowledged."""
    relay = await radio.Relay.open(
        ("127.0.0.1", 0), ("127.0.0.1", inside.port), radio.outage(_OUTAGE_AT_S, seconds), seed
    )
    began = asyncio.get_running_loop().time()
    fleet = Fleet(
        parse_uri(f"coaps://127.0.0.1:{relay.port}"),
        [Node(f"d{number}", KEY) for number in range(first, first + _FLEET)],
        load_all(),
        speed=1.0,
        loss=0.0,
        seed=seed,
    )
    await fleet.run(wall=inside.clock.wall(), duration_s=_OUTAGE_AT_S + 4 * seconds)
    relay.close()
    since = [at - began for at in relay.arrivals]
    over = _OUTAGE_AT_S + seconds
    usual = sum(5 <= at < _OUTAGE_AT_S for at in since) / (_OUTAGE_AT_S - 5)
    after = [at for at in since if at >= over]
    peak = max(sum(at <= one < at + _WINDOW_S for one in after) for at in after) / _WINDOW_S
    return peak / usual, fleet.report.sent, fleet.report.acknowledged


async def _clear_and_deaf(inside: Inside, number: int) -> list[str]:
    """Without loss nothing is repeated; with nothing but loss nobody gets in."""
    failures = []
    loop = asyncio.get_running_loop()
    for loss in (0.0, 1.0):
        relay = await radio.Relay.open(
            ("127.0.0.1", 0),
            ("127.0.0.1", inside.port),
            radio.Profile(loss=loss, delay=0.05, jitter=0.02),
            1,
        )
        began = loop.time()
        try:
            link = await Link.open("127.0.0.1", relay.port, identity=f"d{number}", key=KEY)
        except LinkError as error:
            if loss == 0 or "within 30 s" not in str(error) or loop.time() - began < DEADLINE_S:
                failures.append(f"loss {loss:.0%}: {error} after {loop.time() - began:.1f} s")
        else:
            for _ in range(5):
                await link.request(Code.GET, ("time",))
            link.close()
            # Two hellos, the third flight, five requests.
            if loss == 1 or relay.up.counts["received"] != 8:
                failures.append(f"loss {loss:.0%}: a handshake, {relay.counts()}")
        relay.close()
    return failures


def _channel(count: int, seed: int) -> list[str]:
    """The relay alone: 10 % loss is 10 %, a delay of 80 ms is 80 ms."""
    profile = radio.Profile(loss=0.10, delay=0.08, jitter=0.04)
    channel = radio.Channel(profile, radio.Air(0), random.Random(seed), 0.0)
    for number in range(count):
        channel.offer(100, lambda: None, number / 1000)
        channel.due(number / 1000)
    channel.due(count)
    lost = channel.counts["lost"] / count
    delay = channel.delays_s / channel.counts["sent"]
    allowed = 0.005 * max(1.0, math.sqrt(100_000 / count))
    if abs(lost - 0.10) > allowed or abs(delay - 0.08) > 0.008:
        return [f"the relay itself: {lost:.2%} lost, {delay * 1000:.1f} ms"]
    return []


def _run(run: Run) -> Found:
    failures = _channel(100_000 if run.long else _CHANNEL, run.seed)
    figures: dict[str, object] = {}
    per_profile = max(1, run.runs // _REQUESTS)
    names = ["P2"] if run.fault else list(_PROFILES)
    outage_s = 60.0 if run.long else 12.0

    async def scenario(inside: Inside) -> dict[str, Seen]:
        found = await asyncio.gather(
            *(
                _profile(
                    inside,
                    name,
                    range(place * per_profile, (place + 1) * per_profile),
                    run.seed,
                    DEFAULT if name != "P3" else URGENT,
                )
                for place, name in enumerate(names)
            )
        )
        first = len(names) * per_profile
        rows = inside.count("admitted")
        sent, again = sum(seen.sent for seen in found), sum(seen.again for seen in found)
        if not sent - sum(seen.late for seen in found) <= rows <= sent + again:
            failures.append(f"{rows} rows of {sent} packs: some are stored twice, or not at all")
        if run.fault is None:
            failures.extend(await _clear_and_deaf(inside, first + _FLEET))
            times, packs, acknowledged = await _outage(inside, first, outage_s, run.seed)
            figures["P4"] = f"peak {times:.1f} x the usual rate"
            if times > 2:
                failures.append(f"P4: {times:.1f} x the usual rate after the outage")
            if acknowledged < packs:
                failures.append(f"P4: {packs - acknowledged} of {packs} packs not acknowledged")
        return dict(zip(names, found, strict=True))

    with _planted(run.fault), in_memory(run.folder) as folder:
        profiles, _ = play(folder, len(names) * per_profile + _FLEET + 1, scenario)
    for name, seen in profiles.items():
        run.progress(seen.sent)
        share = 0.001 if name == "P3" else 0.0
        if seen.late > share * seen.sent:
            failures.append(f"{name}: {seen.late} of {seen.sent} packs not within 93 s")
        if name != "P3" and seen.again > _allowed(seen.sent / 1000, run):
            failures.append(f"{name}: {seen.again} of {seen.sent} packs got no answer at first")
        if name != "P3" and seen.slow > _allowed(seen.handshakes / 100, run):
            failures.append(f"{name}: {seen.slow} of {seen.handshakes} handshakes not within 30 s")
        latencies = sorted(seen.latencies) or [math.inf]
        figures[name] = (
            f"{seen.sent} packs p99 {latencies[int(0.99 * len(latencies))]:.1f} s "
            f"max {latencies[-1]:.0f} s, {seen.again} begun again, "
            f"{seen.handshakes} handshakes {seen.slow} slow"
        )
    if run.fault is None:
        others, wrong = foreign_nodes(run.folder, radio.P2 if run.long else radio.P1, run.seed)
        failures += wrong
        figures["others' nodes"] = " and ".join(others) or "none is installed"
    return Found(failures, figures)


def _allowed(expected: float, run: Run) -> float:
    """A short run is a small sample: three standard deviations more."""
    return expected if run.long else expected + 3 * math.sqrt(expected)


def _planted(fault: str | None) -> mock._patch[object]:
    def once(self: Link) -> Iterator[float]:
        yield self._transmission.ack_timeout_s

    if fault == "no-retransmission":
        return mock.patch.object(Link, "_waits", once)
    if fault == "no-deduplication":
        return mock.patch.object(Exchanges, "begin", return_value=New())
    assert fault is None, fault
    return mock.patch.object(Link, "_waits", Link._waits)


register(
    Experiment(
        id="R-17",
        name="radio",
        target="packs delivered at P1 (2 % loss) and P2 (10 %) all, 99.9 % of them by their first "
        "exchange; at P3 (20 % in bursts, doubled, reordered) 99.9 % within 93 s; handshakes at P1 "
        "and P2 99 % within 30 s; after an outage (P4) at most twice the usual rate",
        unit="packs a profile",
        short=200,
        long=20_000,
        run=_run,
        faults={
            "no-retransmission": "a node sends each request once and counts on it",
            "no-deduplication": "the gateway takes every repetition for a new message",
        },
        fault_runs=150,
    )
)
