"""Clients that prove their address and then stop: what they hold is bounded, and soon free."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls import server
from gateway.dtls.association import Path
from gateway.dtls.handshake import DEADLINE_S
from gateway.dtls.server import HALF_OPEN
from tests.acceptance.ward import until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.dtls_server import Inside, path
from tests.experiments.rigs.flood import addresses, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import Puppet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.experiments.rigs.hostile import Faults

_STEPS: Final = (0, 1, 2, 3, 4)
"""Messages of the flight that follows the gateway's HelloDone; a key's has three, and the last one
would finish it."""

_HONEST_EVERY: Final = HALF_OPEN + 30
"""An honest node is as slow as so many others are quick."""

_HELD_KIB: Final = 110
"""By one handshake, at most."""


def _one_host(number: int) -> Path:
    return Path(0, ("192.0.2.66", 1024 + number % 60_000))


def _one_network(number: int) -> Path:
    """Every /64 of a /48 in turn."""
    return Path(0, (f"2001:db8:66:{number & 0xFFFF:x}::{number >> 16:x}", 5684, 0, 0))


_ATTACKERS: Final[dict[str, Callable[[int], Path]]] = {
    "addresses of a ward": path,
    "ports of one host": _one_host,
    "hosts of one IPv6 network": _one_network,
}


class _Inside:
    """One kind of attacker, with time as an argument."""

    def __init__(self, run: Run, name: str, place: Callable[[int], Path]) -> None:
        self._inside = Inside(run.seed)
        self._name, self._place = name, place
        self.failures: list[str] = []

    def stop_at_each_step(self, runs: int) -> None:
        honest = [self._honest(0)]
        for number in range(runs):
            step = _STEPS[number % len(_STEPS)]
            puppet = self._inside.puppet(certified=step > 2)
            at = self._place(number)
            self._inside.greet(puppet, at)
            for record in puppet.flight()[:step]:
                self._inside.give(record, at)
            self._inside.take()
            self._inside.now += 0.001
            if self._inside.server.half_open() > HALF_OPEN:
                self._failed(f"{self._inside.server.half_open()} half open")
                return
            if number % _HONEST_EVERY == 0:
                self._finish(*honest.pop())
                honest.append(self._honest(number))
        self._finish(*honest.pop())
        held = self._inside.server.half_open()
        if held < min(runs, HALF_OPEN) * 0.9:
            self._failed(f"{held} half open: the cap is not reached")
        self._inside.server.sweep(self._inside.now + DEADLINE_S - 1.0)
        if not self._inside.server.half_open():
            self._failed("the newest are not held for so long")
        self._inside.server.sweep(self._inside.now + DEADLINE_S + 0.1)
        if self._inside.server.half_open():
            self._failed(f"{self._inside.server.half_open()} half open after {DEADLINE_S:.0f} s")

    def _honest(self, number: int) -> tuple[Puppet, Path]:
        """A node that has got as far as the gateway's HelloDone."""
        puppet, at = self._inside.puppet(name=f"n{number}"), Path(0, ("10.250.0.1", 2000 + number))
        self._inside.greet(puppet, at)
        return puppet, at

    def _finish(self, puppet: Puppet, at: Path) -> None:
        for record in puppet.flight():
            self._inside.give(record, at)
        puppet.hear(self._inside.take())
        if self._inside.give(puppet.data(b"here"), at) != [b"here"]:
            self._failed("an honest node was pushed out")

    def _failed(self, what: str) -> None:
        self.failures.append(f"{self._name}: {what}")


def _through_the_socket(run: Run, count: int, figures: dict[str, object]) -> list[str]:
    """A real gateway with more half-open handshakes than it takes; an honest node meanwhile."""
    failures = []
    chance = random.Random(run.seed)
    with attacked(run, _FAULTS) as target, spoofer(target.address) as attacker:
        sources = addresses(chance, count)
        puppets = {source: Puppet(chance) for source in sources}
        before = target.memory_kib()
        waits, most = [], 0
        for start in range(0, count, HALF_OPEN):
            some = sources[start : start + HALF_OPEN]
            for source in some:
                attacker.send(puppets[source].hello(), source)
            for answer, source in attacker.answers(len(some)):
                puppets[source].hear([answer])
            for source in some:
                attacker.send(puppets[source].hello(), source)
            attacker.answers(len(some))
            most = max(most, target.status()["half_open"])
            began = time.monotonic()
            target.peer().is_well()
            waits.append(time.monotonic() - began)
        held = target.memory_kib() - before
        figures |= {"half open": most, "KiB held": held, "honest node, s": round(max(waits), 2)}
        if not HALF_OPEN - len(waits) <= most <= HALF_OPEN:
            failures.append(f"{most} half open in the running gateway")
        if held > HALF_OPEN * _HELD_KIB:
            failures.append(f"{held} KiB for {most} half-open handshakes")
        if run.long and max(waits) > 5.0:
            failures.append(f"an honest node needed {max(waits):.1f} s")
        for source in sources:
            attacker.send(puppets[source].alert(), source)
        until(lambda: target.status()["half_open"] == 0)
    return failures


def _run(run: Run) -> Found:
    failures = []
    figures: dict[str, object] = {"attackers": len(_ATTACKERS)}
    with nullcontext() if run.fault is None else _FAULTS[run.fault][1]():
        for done, (name, place) in enumerate(_ATTACKERS.items()):
            kind = _Inside(run, name, place)
            kind.stop_at_each_step(run.runs)
            failures += kind.failures
            run.progress(run.runs * (done + 1) // len(_ATTACKERS))
    if run.fault is None:
        failures += _through_the_socket(run, max(HALF_OPEN + 44, run.runs // 5), figures)
    return Found(failures, figures)


_FAULTS: Faults = {
    "no-cap": (
        "half-open handshakes are not capped",
        partial(patch.object, server, "HALF_OPEN", 1 << 30),
    ),
    "no-hold": (
        "a handshake under way is never given up",
        partial(patch.object, server, "DEADLINE_S", 1e9),
    ),
    "each-64-a-host": (
        "who has many IPv6 hosts in one site counts as many",
        partial(
            patch.object, server, "oldest_of_the_busiest", lambda waiting: next(iter(waiting))[0]
        ),
    ),
}

register(
    Experiment(
        id="S-04",
        name="half-open",
        target=f"at most {HALF_OPEN} half open, for {DEADLINE_S:.0f} s; honest nodes connect, "
        f"within 5 s; at most {HALF_OPEN * _HELD_KIB // 1024} MiB",
        unit="clients of each kind",
        short=300,
        long=10_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=300,
    )
)
