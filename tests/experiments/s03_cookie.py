"""Cookies: only one that we gave to this address, for this hello, a moment ago, opens anything."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.association import Path
from gateway.dtls.cookie import SLOT_S, Cookies
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.dtls_server import Inside, path
from tests.experiments.rigs.flood import addresses, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import HELLO_VERIFY_REQUEST, SERVER_HELLO, Puppet

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gateway.dtls.cookie import ClientHello
    from tests.experiments.rigs.hostile import Faults

_LENGTH: Final = 32
_REAL: Final = 20
"""Cases through the socket of a real gateway."""


class _Cases:
    """Each gives a cookie to one server and says whether it opened a handshake."""

    def __init__(self, run: Run) -> None:
        self._inside = Inside(run.seed)
        self._chance = random.Random(run.seed + 1)
        self._number = 0
        self.tried = 0
        self.failures: list[str] = []

    def fresh(self) -> tuple[Puppet, Path]:
        """A puppet with a cookie of its own."""
        self._number += 1
        puppet, at = self._inside.puppet(), path(self._number)
        self._inside.give(puppet.hello(), at)
        puppet.hear(self._inside.take())
        return puppet, at

    def check(self, name: str, puppet: Puppet, at: Path, *, good: bool, later: float = 0.0) -> None:
        """Whether this hello is taken, so many seconds later."""
        server = self._inside.server
        self._inside.now += later
        self._inside.give(puppet.hello(seq=1), at)
        answers = self._inside.take()
        opened = server.half_open() == 1
        puppet.heard.clear()
        puppet.hear(answers)
        expected = {SERVER_HELLO} if good else {HELLO_VERIFY_REQUEST}
        if opened != good or not expected <= puppet.heard:
            self.failures.append(f"{name}: {'refused' if good else 'taken'}")
        server.close(None, "next case")
        server.sweep(self._inside.now + 31.0)
        self.tried += 1

    def all(self, run: Run) -> None:
        self._legal()
        self._elsewhere()
        self._altered()
        self._restarted(run)
        puppet, at = self.fresh()
        for done in range(run.runs):
            puppet.cookie = self._chance.randbytes(_LENGTH)
            self.check("forged", puppet, at, good=False)
            run.progress(done + 1)

    def _legal(self) -> None:
        for later, good in ((0.0, True), (SLOT_S, True), (2 * SLOT_S, False), (3600.0, False)):
            puppet, at = self.fresh()
            self.check(f"{later:.0f} s later", puppet, at, good=good, later=later)

    def _elsewhere(self) -> None:
        for name, change in {
            "another port": lambda at: Path(at.listener, (at.address[0], at.address[1] + 1)),
            "another address": lambda at: Path(at.listener, ("10.9.9.9", at.address[1])),
            "another socket of ours": lambda at: Path(at.listener + 1, at.address),
            "an IPv6 address": lambda at: Path(0, ("::ffff:10.0.0.1", at.address[1], 0, 0)),
        }.items():
            puppet, at = self.fresh()
            self.check(name, puppet, change(at), good=False)
        puppet, at = self.fresh()
        other, _ = self.fresh()
        other.cookie = puppet.cookie
        self.check("another hello", other, at, good=False)

    def _altered(self) -> None:
        puppet, at = self.fresh()
        given = puppet.cookie
        shorter = [given[:size] for size in range(_LENGTH)]
        for cookie in (*shorter, given + b"\0", given * 7, bytes(255), bytes(_LENGTH)):
            puppet.cookie = cookie
            self.check(f"{len(cookie)} bytes", puppet, at, good=False)
        for bit in range(8 * _LENGTH):
            flipped = int.from_bytes(given, "big") ^ 1 << bit
            puppet.cookie = flipped.to_bytes(_LENGTH, "big")
            self.check(f"bit {bit}", puppet, at, good=False)

    def _restarted(self, run: Run) -> None:
        puppet, at = self.fresh()
        now = self._inside.now
        self._inside = Inside(run.seed + 2)
        self._inside.now = now
        self.check("before a restart", puppet, at, good=False)


def _through_the_socket(run: Run) -> list[str]:
    """A real gateway, real addresses: a cookie of one is of no use to another."""
    chance = random.Random(run.seed)
    failures = []
    with attacked(run, _FAULTS) as target, spoofer(target.address) as attacker:
        mine, others = addresses(chance, _REAL), addresses(chance, _REAL)
        for source, other in zip(mine, others, strict=True):
            puppet = Puppet(chance)
            for at, expected in (
                (source, HELLO_VERIFY_REQUEST),
                (other, HELLO_VERIFY_REQUEST),
                (source, SERVER_HELLO),
            ):
                cookie = puppet.cookie
                attacker.send(puppet.hello(), at)
                puppet.heard.clear()
                puppet.hear(datagram for datagram, _ in attacker.answers(1))
                if expected not in puppet.heard:
                    failures.append(f"{at}, cookie of {source}: heard {puppet.heard}")
                puppet.cookie = cookie or puppet.cookie
            # The handshake is not left half open.
            attacker.send(puppet.alert(), source)
    return failures


def _run(run: Run) -> Found:
    with nullcontext() if run.fault is None else _FAULTS[run.fault][1]():
        cases = _Cases(run)
        cases.all(run)
    if run.fault is None:
        cases.failures += _through_the_socket(run)
    return Found(cases.failures, {"cookies": cases.tried + 3 * _REAL})


# -- faults

_mac = Cookies._mac


def _any_address() -> AbstractContextManager[object]:
    def careless(
        self: Cookies, salt: bytes, slot: int, address: bytes, hello: ClientHello
    ) -> bytes:
        return _mac(self, salt, slot, b"", hello)

    return patch.object(Cookies, "_mac", careless)


def _for_ever() -> AbstractContextManager[object]:
    def careless(
        self: Cookies, salt: bytes, slot: int, address: bytes, hello: ClientHello
    ) -> bytes:
        return _mac(self, salt, 0, address, hello)

    return patch.object(Cookies, "_mac", careless)


_FAULTS: Faults = {
    "any-address": ("the cookie does not hold the address", _any_address),
    "for-ever": ("the cookie does not hold the time", _for_ever),
}

register(
    Experiment(
        id="S-03",
        name="cookies",
        target="a cookie opens a handshake from its address, with its hello, for 30 to 60 s; "
        "0 forged ones taken",
        unit="forged cookies",
        short=500,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=50,
    )
)
