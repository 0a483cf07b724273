"""The gateway's time of day is wrong, and is set while it runs.

In virtual time a whole gateway goes through a start in 1970, a day forward, an hour back and a leap
second, with nodes that have a clock and nodes that have none. Then a real one starts in 1970 with
libfaketime (monotonic clock left alone) beside a real cloud store, and the time is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import struct
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import cbor2

from certs import files
from gateway import control
from gateway.coap.numbers import Code
from gateway.cose.record import RecordIds
from gateway.dtls.credentials import Identity
from gateway.ingress.driver import Driver
from gateway.node.fleet import Node
from gateway.node.link import Link, LinkError
from gateway.vitals.triage import Triage
from tests.acceptance.ward import a_ward, until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hand import Hand, request
from tests.experiments.rigs.virtual import in_memory, play

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward
    from tests.experiments.rigs.virtual import Inside

_YEARS_S: Final = 56 * 365.25 * 86_400
_STEPS: Final = {
    "the time is set": _YEARS_S,
    "an hour back": -3600.0,
    "a day forward": 86_400.0,
    "a leap second": -1.0,
}
"""In this order, then any of the later ones."""
_LATER: Final = list(_STEPS)[1:]
_AROUND: Final = 5
"""Packs of each node before and after a step."""
_FAST: Final = 25
"""Packs of two fast beats after each step: an emergency, 17 beats after the first."""
_HEAD: Final = struct.Struct("<16s16s16s16sQ")


class _Node:
    """``has_clock``: its times are absolute, by a clock of its own that is not set."""

    def __init__(self, inside: Inside, hand: Hand, *, has_clock: bool) -> None:
        self.inside, self.hand = inside, hand
        self.loop = asyncio.get_running_loop()
        self.zero = 1.8e9 - self.loop.time() if has_clock else None
        self.mid = 0
        self.last = b""

    async def beat(self, rr: float, beats: int) -> int:
        """A pack of beats; the code of its answer."""
        await asyncio.sleep(rr * beats)
        now = 0.0 if self.zero is None else self.zero + self.loop.time()
        records: list[dict[int, Any]] = [
            {0: "rr", 1: "ms", 2: round(rr * 1000), 6: round(now - rr * place, 3)}
            for place in reversed(range(beats))
        ]
        records.append({0: "contact", 4: True, 6: round(now, 3)})
        self.mid += 1
        self.last = request(Code.POST, ("v",), self.mid, payload=cbor2.dumps(records))
        try:
            return (await self.hand.ask(self.last)).code
        except TimeoutError:
            return Code.EMPTY


def _of_nodes(inside: Inside) -> list[dict[str, Any]]:
    """Alarms but the gateway's own: nobody takes what it delivers."""
    return [alarm for alarm in inside.alarms() if alarm["device"] in ("d0", "d1")]


async def _steps(inside: Inside, rounds: int, seed: int) -> tuple[Path, int, list[str]]:
    """The state folder, how many packs were acknowledged, and what went wrong."""
    chance = random.Random(seed)
    failures: list[str] = []
    acknowledged = 0
    nodes = [
        _Node(inside, await Hand.open(inside, f"d{number}"), has_clock=number == 0)
        for number in range(2)
    ]

    async def beats(rr: float, count: int, packs: int, what: str) -> None:
        nonlocal acknowledged
        for _ in range(packs):
            codes = await asyncio.gather(*(node.beat(rr, count) for node in nodes))
            acknowledged += codes.count(Code.CHANGED)
            failures.extend(f"{what}: answer {code}" for code in codes if code != Code.CHANGED)

    for number in range(rounds):
        what = list(_STEPS)[number] if number < len(_STEPS) else chance.choice(_LATER)
        await beats(0.8, 2, _AROUND, what)
        failures.extend(f"before {what}: {alarm}" for alarm in _of_nodes(inside))
        await asyncio.sleep(1)
        before = inside.status()
        inside.clock.ahead += _STEPS[what]
        await asyncio.sleep(1)
        after = inside.status()
        if after["associations"] != before["associations"]:
            failures.append(f"{what}: {after['associations']} associations are left")
        replayed = inside.count("replayed")
        for node in nodes:
            node.hand.send(node.last)
        await asyncio.sleep(1)
        if inside.count("replayed") != replayed + len(nodes):
            failures.append(f"{what}: a repetition was not known any more")
        await beats(0.8, 2, _AROUND, what)
        failures.extend(f"after {what}: {alarm}" for alarm in _of_nodes(inside))
        # Nothing that was set may hide an emergency.
        await beats(0.4, 2, _FAST, what)
        found = {alarm["device"] for alarm in _of_nodes(inside)}
        if found != {"d0", "d1"}:
            failures.append(f"after {what}: the emergency of {sorted({'d0', 'd1'} - found)} missed")
        await beats(0.8, 2, 12, what)
    if inside.status()["clock"]["steps"] != rounds:
        failures.append(f"{rounds} steps: {inside.status()['clock']}")
    for node in nodes:
        node.hand.close()
    return inside.state, acknowledged, failures


def _order(state: Path, acknowledged: int) -> list[str]:
    """What is on disk: every row, in the order in which it came, whatever the time was."""
    failures = []
    ids: list[tuple[int, bytes]] = []
    with contextlib.closing(sqlite3.connect(state / "outbox.db")) as outbox:
        for lane in ("emergency", "routine"):
            rows = outbox.execute(f"SELECT number, row FROM {lane} ORDER BY number").fetchall()
            ids += [(number, _HEAD.unpack_from(row)[0]) for number, row in rows]
            mine = [_HEAD.unpack_from(row)[0] for _, row in rows]
            wrong = sum(after <= before for before, after in pairwise(mine))
            if wrong:
                failures.append(f"{wrong} of {len(mine)} ids of the {lane} lane are out of order")
    if len(ids) != acknowledged:
        failures.append(f"{len(ids)} rows of {acknowledged} acknowledged")
    return failures


def _run(run: Run) -> Found:
    with _planted(run.fault), in_memory(run.folder) as folder:
        (state, acknowledged, failures), _ = play(
            folder, 2, lambda inside: _steps(inside, run.runs, run.seed), ahead=-_YEARS_S
        )
        failures += _order(state, acknowledged)
    run.progress(run.runs)
    figures: dict[str, object] = {"packs": acknowledged}
    if run.fault is None:
        with a_ward(run.folder) as ward:
            failures += _in_1970(ward)
    return Found(failures, figures)


_LIBRARY: Final = "libfaketime.so.1"


def _library() -> Path | None:
    return next(Path("/usr/lib").glob(f"*/faketime/{_LIBRARY}"), None)


def _in_1970(ward: Ward) -> list[str]:
    """A real gateway that starts in 1970, until the time is set."""
    failures: list[str] = []
    ward.make()
    node = ward.enter("bracelet-1")
    ward.start_cloud()
    time = ward.folder / "time"
    time.write_text("@1970-01-01 00:10:00")
    faked = {
        "LD_PRELOAD": str(_library()),
        "FAKETIME_TIMESTAMP_FILE": str(time),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }
    ward.environment |= faked
    ward.start_gateway()
    for name in faked:
        del ward.environment[name]
    ward.ask("device", "add", "bracelet-2", "--cert")
    if ward.post(node, "v", b'[{"n":"hr","u":"1/min","v":71}]') != Code.CHANGED:
        failures.append("1970: a pack is not stored")
    if ward.post(node, "a", b'[{"n":"fall","vb":true}]') != Code.CHANGED:
        failures.append("1970: an emergency is not stored")
    rules = _rules(ward)
    if not {"declared", "clock"} <= rules:
        failures.append(f"1970: an alarm is missing: {rules}")
    until(lambda: "not yet valid" in str(ward.status()["delivery"]))
    if ward.waiting("routine") + ward.waiting("emergency") != 2:
        failures.append("1970: something was delivered past a certificate that is not yet valid")
    until(lambda: "rosters read again" in ward.log("gateway"))
    if _certified(ward) is None:
        failures.append("1970: a device with a certificate is let in")
    clock = ward.status()["clock"]
    if (
        clock["plausible"]
        or clock["synchronised"]
        or "it cannot be 1970" not in ward.log("gateway")
    ):
        failures.append(f"1970: nobody is told, {clock}")
    time.write_text("+0")
    until(lambda: ward.status()["clock"]["plausible"])
    ward.delivered()
    refused = _certified(ward)
    if refused is not None:
        failures.append(f"after the time is set a device with a certificate is refused: {refused}")
    if ward.post(node, "v", b'[{"n":"hr","u":"1/min","v":72}]') != Code.CHANGED:
        failures.append("after the time is set a pack is not stored")
    ward.delivered()
    if "clock" in _rules(ward):
        failures.append("the time is set, and the alarm stays")
    read = ward.opened("doctor")
    if [(one.received_ms < 10**10, one.clock) for one in read] != [
        (True, "unsynchronised"),
        (False, read[-1].clock if read else ""),
    ]:
        failures.append(f"the doctor reads {read}")
    if [one.clock for one in ward.opened("alarm-centre")] != ["unsynchronised"]:
        failures.append(f"the alarm centre reads {ward.opened('alarm-centre')}")
    if ward.stop_gateway() != 0:
        failures.append("it does not end well")
    return failures


def _rules(ward: Ward) -> set[str]:
    """Of the alarms that hold."""
    alarms: list[dict[str, str]] = control.ask(ward.state, "alarms") or []
    return {alarm["rule"] for alarm in alarms}


def _certified(ward: Ward) -> str | None:
    """Why a device with a certificate is refused."""
    folder = ward.folder / "devices" / "bracelet-2"
    certificate, key = files.load_pair(folder / "device.pem", folder / "device.key")
    authority = files.load_certificate(folder / "ca.pem")
    engines = Node("bracelet-2", Identity(certificate, key, authority)).engines()

    async def knock() -> str | None:
        try:
            link = await Link.shake_hands(
                "127.0.0.1", ward.port_base, engines, loss=0, chance=random.Random(1)
            )
        except LinkError as error:
            return str(error)
        link.close()
        return None

    return asyncio.run(knock())


_assess, _sweep = Triage.assess, Driver.sweep


def _by_wall(self: Triage, *args: Any, **named: Any) -> Any:
    return _assess(self, *args, **{**named, "now": named["wall"]})


class _WallTimers:
    """Counts seconds from the first sweep on, by the time of day."""

    def __init__(self) -> None:
        self.ahead: float | None = None

    def sweep(self, driver: Driver, now: float) -> None:
        wall = driver._clock.wall()
        self.ahead = wall - now if self.ahead is None else self.ahead
        _sweep(driver, wall - self.ahead)


def _by_time(self: RecordIds, received_ms: int) -> bytes:
    self._count += 1
    return (received_ms << 32 | self._count).to_bytes(10, "big") + self._tail


def _planted(fault: str | None) -> Any:
    if fault == "ages-by-wall":
        return mock.patch.object(Triage, "assess", _by_wall)
    if fault == "timers-by-wall":
        timers = _WallTimers()
        return mock.patch.object(Driver, "sweep", lambda self, now: timers.sweep(self, now))
    if fault == "sorted-by-wall":
        return mock.patch.object(RecordIds, "mint", _by_time)
    assert fault is None, fault
    return mock.patch.object(Triage, "assess", _assess)


def _needs() -> str | None:
    return None if _library() else f"{_LIBRARY} is not installed (Debian: faketime)"


register(
    Experiment(
        id="R-18",
        name="clock",
        target="the time of day is wrong or set (1970, +1 day, -1 h, a leap second): nothing "
        " expires early or never, no row lost or out of order, emergencies are found and "
        "stored; what certificates hold up goes on by itself when the time is set",
        unit="steps",
        short=4,
        long=200,
        run=_run,
        faults={
            "ages-by-wall": "triage counts ages on the time of day",
            "timers-by-wall": "timeouts are swept by the time of day",
            "sorted-by-wall": "record ids begin with the time of day, whatever came before",
        },
        fault_runs=2,
        needs=_needs,
    )
)
