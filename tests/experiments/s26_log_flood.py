"""Each error that a peer can cause, very often: a line a second a kind at most, and a count."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE
from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.credentials import Identity
from gateway.dtls.records import ALERT
from gateway.telemetry import log
from tests.acceptance.ward import until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import Spoofer, addresses, flood, log_lines, spoofer
from tests.experiments.rigs.hostile import DEVICES, attacked, described
from tests.experiments.rigs.puppet import HELLO_VERIFY_REQUEST, SERVER_HELLO_DONE, Puppet, record
from tests.integration.peer import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults, Target

_AT_ONCE: Final = 50
_VALUES: Final = re.compile(r"\bd\d+\b|\b\d[\d.:]*\b|[\[(].*[\])]|left_out=\d+")
"""What makes two lines of one kind differ."""


class _Causes:
    """Each method causes one kind of error ``count`` times."""

    def __init__(self, run: Run, target: Target, attacker: Spoofer) -> None:
        self._target, self._attacker = target, attacker
        self._chance = random.Random(run.seed)
        self._foreign = _foreign()

    def all(self) -> dict[str, tuple[Callable[[int], None], str]]:
        """Name -> the cause, and the count that has to grow."""
        return {
            "rubbish": (self.rubbish, "dropped"),
            "another version": (self.version, "unsupported_version"),
            "foreign certificates": (self.certificates, "handshakes_failed"),
            "messages that are no handshake": (self.nonsense, "handshakes_failed"),
            "associations opened and closed": (self.associations, "handshakes_done"),
            "records that fail authentication": (self.records, "dropped_unauthentic"),
            "CoAP rubbish inside an association": (self.messages, ""),
        }

    def rubbish(self, count: int) -> None:
        self._flood(self._chance.randbytes(40) for _ in range(count))

    def version(self, count: int) -> None:
        hello = Puppet(self._chance).hello()
        self._flood(hello[:25] + b"\xfe\xff" + hello[27:] for _ in range(count))

    def certificates(self, count: int) -> None:
        self._handshakes(count, lambda: Puppet(self._chance, certificate=self._foreign))

    def nonsense(self, count: int) -> None:
        self._handshakes(
            count,
            lambda: Puppet(self._chance),
            lambda puppet: [puppet._say(16, 2, b"\xff\xffx")],
        )

    def associations(self, count: int) -> None:
        number = iter(range(count))
        self._handshakes(
            count,
            lambda: Puppet(self._chance, identity=b"d%d" % (next(number) % DEVICES), key=KEY),
            lambda puppet: [*puppet.flight(), puppet.protect(ALERT, b"\1\0")],
        )

    def records(self, count: int) -> None:
        victim = self._target.peer()
        with spoofer(self._target.address, victim.shared_port()) as beside:
            forged = (
                (record(23, n, self._chance.randbytes(40), epoch=1), "127.0.0.1")
                for n in range(count)
            )
            flood(self._target, beside, forged)

    def messages(self, count: int) -> None:
        """Nothing that a node says is worth a line."""
        peer = self._target.peer()
        path = (int(Option.URI_PATH), b"time")
        for n in range(count):
            mid = 0x8000 + n
            said = (
                b"\x4f" + self._chance.randbytes(20),
                wire.encode(Message(Type.CON, Code.GET, mid, b"", ((9, b"x"),))),
                wire.encode(Message(Type.CON, Code.GET, mid, b"", (path, (23, b"\xff\xff\xff")))),
                wire.encode(Message(Type.NON, Code.POST, mid, b"", ((11, b"v"),), b"{")),
                wire.encode(Message(Type.CON, Code.POST, mid, b"", ((11, b"\xff\xfe"),))),
                wire.encode(Message(Type.ACK, Code.CONTENT, mid, b"t")),
            )
            peer.say(said[n % len(said)])
            if n % _AT_ONCE == 0:
                peer.hears()
        peer.hears()

    def _flood(self, datagrams: Iterator[bytes]) -> None:
        sources = addresses(self._chance, 1000)
        places = ((one, sources[n % 1000]) for n, one in enumerate(datagrams))
        flood(self._target, self._attacker, places)

    def _handshakes(
        self,
        count: int,
        make: Callable[[], Puppet],
        say: Callable[[Puppet], list[bytes]] = Puppet.flight,
    ) -> None:
        """From an address each; a few at once, so that none pushes another out."""
        for start in range(0, count, _AT_ONCE):
            sources = addresses(self._chance, min(_AT_ONCE, count - start))
            puppets = {source: make() for source in sources}
            for expected in (HELLO_VERIFY_REQUEST, SERVER_HELLO_DONE):
                for source, puppet in puppets.items():
                    self._attacker.send(puppet.hello(), source)
                until(lambda: self._heard(puppets, expected), within_s=60.0)  # noqa: B023
            for source, puppet in puppets.items():
                for one in say(puppet):
                    self._attacker.send(one, source)
            until(lambda: not self._target.status()["half_open"])

    def _heard(self, puppets: dict[str, Puppet], expected: int) -> bool:
        for datagram, source in self._attacker.take():
            if source in puppets:
                puppets[source].hear([datagram])
        return all(expected in puppet.heard for puppet in puppets.values())


def _foreign() -> Identity:
    """Of an authority that nobody here knows."""
    authority = Authority.passing("Elsewhere", wall=time.time())
    key = files.generate()
    shown = authority.issue(DEVICE, "d1", key.public_key(), wall=time.time(), hosts=())
    return Identity(shown, key, authority.certificate)


def _run(run: Run) -> Found:
    failures = []
    most: Counter[str] = Counter()
    with (
        attacked(run, _FAULTS) as target,
        spoofer(target.address) as attacker,
        log_lines(target) as logged,
    ):
        causes = _Causes(run, target, attacker).all()
        before_all = len(logged())
        began_all = time.monotonic()
        for done, (name, (cause, counted)) in enumerate(causes.items()):
            before, lines, began = target.status(), len(logged()), time.monotonic()
            cause(run.runs)
            after = target.status()
            kinds = Counter(
                _VALUES.sub("#", line.partition("msg=")[2]) for line in logged()[lines:]
            )
            # The first of a kind, one for each second that was begun, and the tail.
            allowed = time.monotonic() - began + 3
            failures += [
                f"{name}: {times} lines in {allowed - 3:.1f} s: {kind}"
                for kind, times in kinds.items()
                if times > allowed
            ]
            most |= kinds
            grown = after["dtls"].get(counted, 0) - before["dtls"].get(counted, 0)
            if counted and grown < run.runs:
                failures.append(f"{name}: {counted} has grown by {grown}, not {run.runs}")
            run.progress(run.runs * (done + 1) // len(causes))
        told = len(logged()) - before_all
        seconds = time.monotonic() - began_all
    if not most:
        failures.append("nothing was logged at all")
    return Found(failures, {"causes": len(causes), "lines": told, "seconds": round(seconds, 1)})


def _no_filter() -> AbstractContextManager[object]:
    return patch.object(log._OncePerSecond, "filter", lambda self, record: True)


_FAULTS: Faults = {"no-filter": ("every line is written", _no_filter)}

register(
    Experiment(
        id="S-26",
        name="log-flood",
        target="at most a line a second a kind, and each error counted",
        unit="times each",
        short=100,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=30,
    )
)
