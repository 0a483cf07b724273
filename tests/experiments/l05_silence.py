"""L-05: nodes fall silent, one by one, two hundred at once, and over a restart of the gateway.

First on a clock of its own, through the whole intake: hours of bracelets with periods from a second
to a quarter of an hour, whose radio loses tries and sends them again, whose packs come in bursts,
who say goodbye or not, while the wall clock is set back and forth and the gateway is killed. Then
for real: bracelets that are cut off from a gateway of a process of its own, `kill -9`, a start.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import random
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from gateway import control
from gateway.alarm_book import AlarmBook
from gateway.coap.fastlane import Kind
from gateway.coap.numbers import Code
from gateway.endpoint import Endpoint
from gateway.intake import Admitted, Offer
from gateway.roster.devices import Devices, new_device
from gateway.vitals import silence
from gateway.vitals.silence import Silence
from tests.acceptance.ward import Device, Ward, a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.inside import CBOR, KEY, good, post
from tests.unit.conftest import TODAY, Desk

if TYPE_CHECKING:
    from collections.abc import Iterable


PERIODS = (1.0, 5.0, 15.0, 20.0, 60.0, 300.0, 900.0)
FLOOR_S = 15.0
"""A shorter period counts as this: README, *Silence*."""
PACKS = 12
"""Of each bracelet before it falls silent: enough to know its period."""
SWEEP_S = 0.25
RETRIES_S = (0.0, 0.0, 0.0, 2.5, 7.0)
"""How much later a pack comes whose first tries are lost (RFC 7252 section 4.2)."""
TARGET_S = 1.0


class Bracelet(NamedTuple):
    """One of the first part."""

    name: str
    period: float
    burst: int
    """Packs that it sends together."""
    lossy: bool
    start: float
    until: float
    """Its last pack is the last one before this."""


def _bracelets(run: Run, chance: random.Random) -> list[Bracelet]:
    """Half of them are silent from one moment on."""
    made = []
    for number in range(run.runs):
        period = PERIODS[number % len(PERIODS)]
        start = chance.uniform(0, 30)
        together = number % 2 == 0
        until = (
            PACKS * max(PERIODS) if together else start + period * PACKS + chance.uniform(0, 900)
        )
        first = until - period * (PACKS - 0.5)
        made.append(Bracelet(f"b{number}", period, 1 + number % 3, number % 5 == 0, first, until))
    return made


class _Hours:
    """All of them on one clock, heard by an intake that is killed once."""

    def __init__(self, run: Run, bracelets: list[Bracelet]) -> None:
        self._desk = desk = Desk(run.folder)
        desk.devices.add(
            *(
                new_device(one.name, patient=None, key=KEY, lenient_units=False, today=TODAY)
                for one in bracelets
            )
        )
        desk.ward.refresh()
        self._stored: dict[bytes, bytes] = {}
        self._seq = 0
        self.now = 0.0
        self.writes = 0
        self.most_writes = 0
        """Of one sweep, however many have fallen silent."""
        self.found: dict[str, list[float]] = {}
        """Device -> when its alarms were raised."""
        self.start()

    def start(self) -> None:
        """A new process finds what the old one has stored."""
        self.book = AlarmBook(bytes(32), os.urandom, self._keep)
        self.book.restore(list(self._stored.items()), self.now)
        self.intake = self._desk.intake(book=self.book)
        self._active = {alarm.device for alarm in self.book.active()}

    def _keep(self, kept: Iterable[tuple[bytes, bytes]], gone: Iterable[bytes]) -> None:
        self.writes += 1
        self._stored.update(kept)
        for name in gone:
            self._stored.pop(name, None)

    def sweep(self) -> None:
        wall = 1_795_000_000.0 + self.now + (0, 86_400, -3600)[int(self.now // 700) % 3]
        before = self.writes
        self.book.sweep(self.now, wall)
        self.most_writes = max(self.most_writes, self.writes - before)
        if len(self.book.technical) != len(self._active):
            active = {alarm.device for alarm in self.book.active()}
            for device in active - self._active:
                self.found.setdefault(device, []).append(self.now)
            self._active = active

    def hear(self, device: str) -> None:
        self._seq += 1
        offer = Offer(Endpoint(self._seq % 3, device), Kind.VITALS, CBOR, good(seq=self._seq))
        (outcome,) = self.intake.admit([offer], now=self.now, wall=1_795_000_000.0 + self.now)
        assert isinstance(outcome, Admitted)
        self._active.discard(device)


def _events(bracelets: list[Bracelet], chance: random.Random) -> list[tuple[float, str]]:
    """When a message of whom arrives."""
    events = []
    for one in bracelets:
        for number in range(PACKS):
            at = one.start + number * one.period
            late = chance.choice(RETRIES_S) if one.lossy and at + 8 < one.until else 0.0
            events += [(at + late + 0.05 * place, one.name) for place in range(one.burst)]
    heapq.heapify(events)
    return events


def _hours(run: Run) -> Found:
    chance = random.Random(run.seed)
    bracelets = _bracelets(run, chance)
    events = _events(bracelets, chance)
    last: dict[str, float] = {}
    hours = _Hours(run, bracelets)
    end = max(one.until for one in bracelets) + 2 * max(PERIODS) + 10
    kill = PACKS * max(PERIODS) / 2
    while hours.now < end:
        hours.now += SWEEP_S
        while events and events[0][0] <= hours.now:
            at, device = heapq.heappop(events)
            hours.now, step = at, hours.now
            hours.hear(device)
            hours.now, last[device] = step, at
        hours.sweep()
        if kill <= hours.now < kill + SWEEP_S:
            hours.start()
            killed = hours.now
    failures, worst = [], 0.0
    for one in bracelets:
        allowed = 2 * max(one.period, FLOOR_S)
        due = last[one.name] + allowed
        times = hours.found.get(one.name, [])
        if one.until < killed < due:
            due = killed + allowed  # every node has its turn after a start
        early = [at for at in times if at < due - TARGET_S]
        # Two gaps are not known of it yet: its first ones may be called a silence.
        early = [at for at in early if at > one.start + 2.5 * one.period]
        if early:
            failures.append(f"{one} is called silent at {early[0]:.1f} and is not")
        elif not [at for at in times if at >= due - TARGET_S]:
            failures.append(f"{one} is silent from {last[one.name]:.1f} and nobody says so")
        else:
            off = max(times) - due
            # What a lossy radio holds back makes its period look longer.
            worst = max(worst, 0.0 if one.lossy else abs(off))
            if off > (2 * max(RETRIES_S) if one.lossy else 0.0) + TARGET_S:
                failures.append(f"{one}: {off:.1f} s late")
    if hours.most_writes > 1:
        failures.append(f"{hours.most_writes} writes for those who fell silent together")
    return Found(failures, {"worst": f"{worst:.2f} s", "bracelets": len(bracelets)})


# --- for real

_NODES = {False: 20, True: 200}
_PERIOD_S = 0.5
_LIMIT_S = 2 * _PERIOD_S
_BRIEF_S = 15.0


def _silent(ward: Ward) -> set[str]:
    """As `alarm list` asks for them."""
    alarms: list[dict[str, Any]] = control.ask(ward.state, "alarms") or []
    return {alarm["device"] for alarm in alarms if alarm["rule"] == "silence"}


def _waited(ward: Ward, expected: set[str], within_s: float) -> float | None:
    """After how long exactly these are silent."""
    began = time.monotonic()
    while _silent(ward) != expected:
        if time.monotonic() - began > within_s:
            return None
        time.sleep(0.02)
    return time.monotonic() - began


async def _heard_and_cut(ward: Ward, devices: list[Device]) -> None:
    """Each sends once more when all have an association; then half of them say goodbye."""
    links = [await ward.link(device) for device in devices]
    for link in links:
        await post(link, "v", good())
    for link in links[1::2]:
        if link._transport is not None:
            link._transport.abort()  # a battery that is pulled says nothing
    await ward.close_links()


def _for_real(run: Run) -> Found:
    within_s = _LIMIT_S + TARGET_S if run.long else _BRIEF_S
    with a_ward(run.folder) as ward:
        ward.environment |= {
            "WARD_GATEWAY_SILENCE__SHORTEST_PERIOD_S": str(_PERIOD_S),
            "WARD_GATEWAY_SILENCE__FIRST_PERIOD_S": str(_PERIOD_S),
        }
        ward.make()
        Devices(ward.state / "devices.json").add(
            *(
                new_device(f"b{number}", patient=None, key=KEY, lenient_units=False, today=TODAY)
                for number in range(_NODES[run.long])
            )
        )
        devices = [Device(f"b{number}", KEY.decode()) for number in range(_NODES[run.long])]
        everyone = {device.id for device in devices}
        ward.start_gateway()
        asyncio.run(_heard_and_cut(ward, devices))
        took = _waited(ward, everyone, within_s)
        if took is None:
            return Found([f"cut off, {len(everyone - _silent(ward))} are not missed"], {})
        posted = time.monotonic()
        if ward.post(devices[0], "v", b'[{"n":"hr","v":72}]') != Code.CHANGED:
            return Found(["a node that is back is not taken"], {})
        if "b0" in _silent(ward) and time.monotonic() - posted < _LIMIT_S:
            return Found(["a node that is back is still silent"], {})
        ward.stop_gateway(signal.SIGKILL)
        spawned = time.monotonic()
        heard = spawned - posted < _LIMIT_S
        ward.start_gateway()
        found = _silent(ward)
        if not everyone - {"b0"} <= found:
            return Found([f"a kill forgets {len(everyone - {'b0'} - found)} alarms"], {})
        if heard and "b0" in found and time.monotonic() - spawned < _LIMIT_S:
            return Found(["after a start nobody has a chance to be heard"], {})
        if _waited(ward, everyone, within_s) is None:
            return Found(["one that fell silent with the gateway is not missed"], {})
        Devices(ward.state / "devices.json").revoke("b1", today=TODAY)
        if _waited(ward, everyone - {"b1"}, _BRIEF_S) is None:
            return Found(["a device that was revoked is missed for ever"], {})
        return Found([], {"nodes": len(devices), "missed after": f"{took:.2f} s"})


# --- the experiment

_back = Silence.heard


def _never_new(self: Any, device: str, patient: str, added: str, now: float) -> bool:
    """Watches are made, and never said to be new, so never stored."""
    result = _back(self, device, patient, added, now)
    self._unkept.clear()
    return result


def _gap_of_packs(self: Any, device: str, one: Any, gap: float) -> None:
    """The period is the last gap."""
    one.period = self._bounded(gap)


def _wall_clock(self: AlarmBook, now: float, wall: float) -> None:
    """The sweep goes by the time of day."""
    _sweep(self, wall - 1_795_000_000.0, wall)


_sweep = AlarmBook.sweep

_FAULTS: dict[str, tuple[object, str, object]] = {
    "not-stored": (Silence, "heard", _never_new),
    "last-gap": (Silence, "_learn", _gap_of_packs),
    "wall-clock": (AlarmBook, "sweep", _wall_clock),
    "one-period": (silence, "SLACK_S", -FLOOR_S),
    "start-at-zero": (Silence, "restore", lambda *_, **__: None),
}


def run(run: Run) -> Found:
    """Both parts; a planted fault must show in the first."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(logging.getLogger("alarms"), "disabled", True))
        if run.fault is not None:
            stack.enter_context(patch.object(*_FAULTS[run.fault]))
        hours = _hours(run)
    run.progress(run.runs)
    if run.fault is not None or hours.failures:
        return hours
    real = _for_real(run)
    return Found(real.failures, hours.figures | real.figures)


register(
    Experiment(
        id="L-05",
        name="silence",
        target="a node that is not heard is an alarm after two of its periods (15 s to 15 min) "
        "+-1 s, 200 at once too, and over a kill -9; no alarm of one that is heard",
        unit="bracelets",
        short=200,
        long=5000,
        run=run,
        faults={
            "not-stored": "the watch over a device is not stored",
            "last-gap": "the period is the last gap",
            "wall-clock": "silence is measured by the time of day",
            "one-period": "an alarm after a part of the time",
            "start-at-zero": "after a start nobody is watched",
        },
        fault_runs=70,
    )
)
