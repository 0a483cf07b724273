"""New hellos from the address of an association, forged and real: it lives until a new one is done.

One demultiplexer serves all associations; an implementation that had it in common with this one let
fast hellos end every association (CVE-2026-55950).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.server import Server
from tests.acceptance.ward import until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import flood, is_well, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import FINISHED, HELLO_VERIFY_REQUEST, SERVER_HELLO, Puppet
from tests.integration.peer import KEY

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gateway.dtls.association import Path
    from tests.experiments.rigs.hostile import Faults, Target

_AT_ONCE: Final = 100
"""Forged hellos before the node is asked how it is: its socket holds the challenges."""


class _Attack:
    """A node whose address is abused, and one that looks on."""

    def __init__(self, run: Run, target: Target) -> None:
        self._run, self._target = run, target
        self._chance = random.Random(run.seed)
        self._victim, self._bystander = target.peer(), target.peer()
        self._patience_s = 10.0 if run.fault is None else 0.5
        self.failures: list[str] = []

    def carry_out(self) -> None:
        before = self._target.status()
        for done in range(0, self._run.runs, 2 * _AT_ONCE):
            self._forged(min(_AT_ONCE, self._run.runs - done))
            self._real(min(_AT_ONCE, self._run.runs - done))
            self._run.progress(min(self._run.runs, done + 2 * _AT_ONCE))
            if self.failures:
                return
        after = self._target.status()
        if after["associations"] != before["associations"]:
            self.failures.append(
                f"{after['associations']} associations, {before['associations']} before"
            )
        if after["half_open"] > 1:
            self.failures.append(f"{after['half_open']} half open for one address")
        self._replaced()
        if not is_well(self._target.peer()):
            self.failures.append("no new association afterwards")
        if after["messages"].get("bug", 0) > before["messages"].get("bug", 0):
            self.failures.append("a hello raised")

    def _forged(self, count: int) -> None:
        """Without a cookie: the challenges go to the node, which does not care."""
        with spoofer(self._target.address, self._victim.shared_port()) as attacker:
            puppets = [Puppet(self._chance) for _ in range(count)]
            flood(self._target, attacker, ((puppet.hello(), "127.0.0.1") for puppet in puppets))
        self._alive("forged hellos")

    def _real(self, count: int) -> None:
        """By whoever is at that address: new handshakes that are never finished."""
        for n in range(count):
            puppet = self._puppet()
            self._greet(puppet)
            if SERVER_HELLO not in puppet.heard:
                self.failures.append(f"a real hello is not answered: {puppet.heard}")
                return
            if n % 10 == 0:
                self._alive("real hellos")
        self._alive("real hellos")

    def _replaced(self) -> None:
        """One that is finished takes the place of the old association, which then is dead."""
        puppet = self._puppet()
        self._greet(puppet)
        for record in puppet.flight():
            self._victim.send(record)
        self._hear(puppet, FINISHED)
        self._victim.send(puppet.data(b"\x40\x00\x12\x34"))
        if b"\x70\x00\x12\x34" not in puppet.hear([self._victim.receive() or b""]):
            self.failures.append("the new association is not served")
        if is_well(self._victim, within_s=0.2):
            self.failures.append("the old association lives beside the new one")
        self._victim.send(puppet.protect(21, b"\1\0"))

    def _puppet(self) -> Puppet:
        return Puppet(self._chance, identity=self._victim.device.encode(), key=KEY)

    def _greet(self, puppet: Puppet) -> None:
        for expected in (HELLO_VERIFY_REQUEST, SERVER_HELLO):
            self._victim.send(puppet.hello())
            self._hear(puppet, expected)

    def _hear(self, puppet: Puppet, expected: int) -> None:
        until(
            lambda: (
                puppet.hear([self._victim.receive(self._patience_s) or b""])
                or expected in puppet.heard
            )
        )

    def _alive(self, after: str) -> None:
        for who, node in (("its own", self._victim), ("another", self._bystander)):
            if not is_well(node, within_s=self._patience_s):
                self.failures.append(f"{who} association is dead after {after}")


def _run(run: Run) -> Found:
    with attacked(run, _FAULTS) as target:
        attack = _Attack(run, target)
        attack.carry_out()
    return Found(attack.failures, {})


def _ends_at_hello() -> AbstractContextManager[object]:
    understand = Server._hello_untrusted

    def careless(self: Server, datagram: bytes, path: Path, now: float) -> None:
        association = self._associations.get(path)
        if association is not None:
            self._remove(association, "a new hello")
        understand(self, datagram, path, now)

    return patch.object(Server, "_hello_untrusted", careless)


_FAULTS: Faults = {"ends-at-hello": ("a hello ends the association of its address", _ends_at_hello)}

register(
    Experiment(
        id="S-05",
        name="new-hellos",
        target="the association lives until a new one is finished, others all the time",
        unit="hellos",
        short=400,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=2,
    )
)
