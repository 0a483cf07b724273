"""Unknown identities and wrong keys: told alike, limited by host, one line a minute."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from OpenSSL._util import ffi

from gateway.dtls.engines.openssl import OpensslServer
from gateway.dtls.hosts import FAILURES, FAILURES_PER_S, Failures
from gateway.dtls.records import ALERT, split_untrusted
from tests.acceptance.ward import until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import Spoofer, addresses, is_well, log_lines, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import (
    FINISHED,
    HELLO_VERIFY_REQUEST,
    SERVER_HELLO,
    SERVER_HELLO_DONE,
    Puppet,
)
from tests.integration.peer import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults

_KNOWN: Final = "d5"
"""A real device; its name is tried with wrong keys."""

_NEIGHBOUR: Final = "d6"
"""Another, behind the same router as the attacker."""

_ONE_HOST: Final = "127.77.0.1"
_AT_ONCE: Final = 200
_PORTS: Final = 80
_LINES: Final = 2
"""A minute: for what failed, and for those who had to wait."""

_ALERTS: Final = frozenset(range(100, 256))

Place = tuple[Spoofer, str]
Shape = frozenset[tuple[int, int, bytes]]
"""Content type and length of the records that were answered, and what an alert says; repetitions
of a flight are alike."""


class _Tries:
    """Many at once, each up to its alert."""

    def __init__(self, run: Run) -> None:
        self._chance = random.Random(run.seed)
        self.shapes: dict[str, set[Shape]] = {"unknown": set(), "wrong key": set()}
        self.told = self.asked = 0.0
        """When the first of the last wave was told that it is wrong; when all of it had asked."""

    def wave(self, places: Sequence[Place], *, all_in: bool) -> int:
        """One try from each place; how many were let in. Returns when those are told."""
        self.told = 0.0
        tries: dict[Place, Puppet] = {}
        for n, place in enumerate(places):
            name = b"z%d" % self._chance.randrange(10) if n % 2 else _KNOWN.encode()
            tries[place] = Puppet(self._chance, identity=name, key=self._chance.randbytes(16))
        heard: dict[Place, list[bytes]] = {place: [] for place in places}
        for expected in (HELLO_VERIFY_REQUEST, SERVER_HELLO):
            for (attacker, source), puppet in tries.items():
                attacker.send(puppet.hello(), source)
            if all_in or expected == HELLO_VERIFY_REQUEST:
                self._until_all(heard, tries, places, frozenset((expected,)))
            else:
                self._until_quiet(heard, tries)
        self.asked = time.monotonic()
        let_in = [place for place in places if SERVER_HELLO in tries[place].heard]
        for attacker, source in let_in:
            attacker.send(b"".join(tries[attacker, source].flight()), source)
        self._until_all(heard, tries, let_in, _ALERTS)
        for n, place in enumerate(places):
            if place in let_in:
                records = [one for datagram in heard[place] for one in split_untrusted(datagram)]
                shape = frozenset(
                    (one[0], len(one), one[13:] if one[0] == ALERT else b"") for one in records
                )
                self.shapes["unknown" if n % 2 else "wrong key"].add(shape)
        return len(let_in)

    def _until_all(
        self,
        heard: dict[Place, list[bytes]],
        tries: dict[Place, Puppet],
        places: Sequence[Place],
        kinds: frozenset[int],
    ) -> None:
        until(
            lambda: (
                not self._take(heard, tries)
                and all(not kinds.isdisjoint(tries[place].heard) for place in places)
            )
        )

    def _until_quiet(self, heard: dict[Place, list[bytes]], tries: dict[Place, Puppet]) -> None:
        """Who has to wait is told nothing: nobody else is waited for either."""
        last = time.monotonic()
        while time.monotonic() - last < 0.2:
            if self._take(heard, tries):
                last = time.monotonic()
            time.sleep(0.005)

    def _take(self, heard: dict[Place, list[bytes]], tries: dict[Place, Puppet]) -> bool:
        came = False
        for attacker in {attacker for attacker, _ in tries}:
            for datagram, source in attacker.take():
                came = True
                if (attacker, source) not in tries:
                    continue  # for an earlier wave
                heard[attacker, source].append(datagram)
                tries[attacker, source].hear([datagram])
                if not self.told and not _ALERTS.isdisjoint(tries[attacker, source].heard):
                    self.told = time.monotonic()
        return came


def _neighbour_s(attacker: Spoofer, chance: random.Random) -> float:
    """How long a node with the right key needs, at the address of an attacker."""
    began = time.monotonic()
    puppet = Puppet(chance, identity=_NEIGHBOUR.encode(), key=KEY)

    def heard(kind: int, datagram: bytes) -> bool:
        attacker.send(datagram, _ONE_HOST)
        patience = time.monotonic() + 0.25
        while kind not in puppet.heard and time.monotonic() < patience:
            puppet.hear(one for one, _ in attacker.take())
        return kind in puppet.heard

    until(lambda: heard(HELLO_VERIFY_REQUEST, puppet.hello(seq=0)))
    # Always the same hello: a node repeats it when it hears nothing.
    hello = puppet.hello()
    until(lambda: heard(SERVER_HELLO, hello))
    until(lambda: SERVER_HELLO_DONE in puppet.heard or heard(SERVER_HELLO_DONE, hello))
    flight = b"".join(puppet.flight())
    until(lambda: heard(FINISHED, flight))
    attacker.send(puppet.protect(ALERT, b"\1\0"), _ONE_HOST)
    return time.monotonic() - began


def _run(run: Run) -> Found:
    failures = []
    tries = _Tries(run)
    chance = random.Random(run.seed + 1)
    began = time.monotonic()
    with attacked(run, _FAULTS) as target, log_lines(target) as logged, ExitStack() as stack:
        honest = target.peer(_KNOWN)
        attacker = stack.enter_context(spoofer(target.address))
        ports = [stack.enter_context(spoofer(target.address)) for _ in range(2 * _PORTS)]
        places = [(attacker, source) for source in addresses(chance, run.runs)]
        rest = places[_AT_ONCE - _PORTS :]
        for start in range(0, len(rest), _AT_ONCE):
            tries.wave(rest[start : start + _AT_ONCE], all_in=True)
            run.progress(min(start + _AT_ONCE, len(rest)))
        one_host = [(port, _ONE_HOST) for port in ports[:_PORTS]]
        tries.wave(one_host + places[: _AT_ONCE - _PORTS], all_in=True)
        told = tries.told
        unknown, wrong = tries.shapes["unknown"], tries.shapes["wrong key"]
        if unknown != wrong or len(unknown) != 1:
            return Found([f"answers differ: {unknown} and {wrong}"], {})
        let_in = tries.wave([(port, _ONE_HOST) for port in ports[_PORTS:]], all_in=False)
        # Some of the failures come after the first, so the bucket is at most as full as this.
        allowed = FAILURES_PER_S * (tries.asked - told) + 1
        if let_in > allowed:
            failures.append(f"{let_in} let in after {FAILURES} failures of one host")
        neighbour = _neighbour_s(ports[0], chance)
        run.progress(run.runs)
        if not (is_well(honest) and is_well(target.peer(_KNOWN))):
            failures.append("the real device is locked out")
        minutes = (time.monotonic() - began) // 60 + 1
        lines = [line for line in logged() if "handshakes refused" in line]
        if len(lines) > _LINES * minutes:
            failures.append(f"{len(lines)} lines of log")
        if run.long and neighbour > 5.0:
            failures.append(f"a node behind the same router needed {neighbour:.1f} s")
    figures = {
        "let in at once": f"{let_in} of {_PORTS}",
        "neighbour, s": round(neighbour, 1),
        "lines": len(lines),
    }
    return Found(failures, figures)


# -- faults


def _no_limit() -> AbstractContextManager[object]:
    return patch.object(Failures, "may_begin", lambda self, host, under_way, now: True)


def _told_apart() -> AbstractContextManager[object]:
    find = OpensslServer._psk

    def careless(self: OpensslServer, ssl: object, identity: Any, out: Any, room: int) -> int:
        if self._credentials.psk(ffi.string(identity)) is None:
            return 0
        return find(self, ssl, identity, out, room)

    return patch.object(OpensslServer, "_psk", careless)


_FAULTS: Faults = {
    "no-limit": ("a host may fail as often as it likes", _no_limit),
    "told-apart": ("an unknown identity is refused at once", _told_apart),
}

register(
    Experiment(
        id="S-20",
        name="wrong-keys",
        target="unknown identities and wrong keys are answered alike; a host may fail "
        f"{FAILURES} times and then {FAILURES_PER_S:.0f}/s; a node behind the same router connects "
        "within 5 s, the real device at once; two lines of log a minute",
        unit="tries",
        short=100,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=4,
    )
)
