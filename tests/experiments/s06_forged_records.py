"""Forged datagrams from the address of a living association: as if they had never come."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.association import Association
from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    DTLS_1_2,
    HANDSHAKE,
    HEADER,
    HEADER_LENGTH,
    Opener,
    split_untrusted,
)
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import flood, is_well, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import HELLO_VERIFY_REQUEST, Puppet, message, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults
    from tests.integration.peer import Peer

_LAST: Final = (1 << 48) - 1
_AT_ONCE: Final = 500
_LONGEST: Final = 1200


def _protected(number: int, chance: random.Random, *, epoch: int = 1) -> bytes:
    """What looks like a record of the association."""
    fragment = chance.randbytes(chance.randrange(16, 120))
    return record(APPLICATION_DATA, number, fragment, epoch=epoch)


def _claiming(length: int) -> bytes:
    return HEADER.pack(APPLICATION_DATA, DTLS_1_2, 1 << 48 | 7, length)


_KINDS: Final[dict[str, Callable[[random.Random], bytes]]] = {
    "fatal alert in the clear": lambda chance: record(
        ALERT, chance.randrange(100), bytes((2, chance.choice((10, 20, 40, 51, 80))))
    ),
    "close_notify in the clear": lambda chance: record(ALERT, chance.randrange(100), b"\1\0"),
    "change_cipher_spec": lambda chance: record(CHANGE_CIPHER_SPEC, chance.randrange(100), b"\1"),
    "application data in the clear": lambda chance: record(
        APPLICATION_DATA, chance.randrange(100), b"\x40\x00\x12\x34"
    ),
    "hello without a cookie": lambda chance: Puppet(chance).hello(),
    "HelloRequest": lambda chance: record(HANDSHAKE, chance.randrange(100), message(0, 0, b"")),
    "epoch 1, next number": lambda chance: _protected(chance.randrange(20), chance),
    "epoch 1, number 500": lambda chance: _protected(500, chance),
    "epoch 1, number 2^48-1": lambda chance: _protected(_LAST, chance),
    "epoch 1, handshake": lambda chance: record(
        HANDSHAKE, chance.randrange(20), chance.randbytes(40), epoch=1
    ),
    "epoch 1, alert": lambda chance: record(
        ALERT, chance.randrange(20), chance.randbytes(18), epoch=1
    ),
    "epoch 65535": lambda chance: _protected(chance.randrange(20), chance, epoch=65_535),
    "length 0": lambda chance: _claiming(0),
    "length 65535": lambda chance: _claiming(65_535) + chance.randbytes(chance.randrange(100)),
    "random bytes": lambda chance: chance.randbytes(chance.randrange(_LONGEST)),
    "an application data record, then random bytes": lambda chance: (
        _protected(9, chance) + chance.randbytes(chance.randrange(100))
    ),
}


def _alerts(datagrams: list[bytes]) -> int:
    return sum(one[0] == ALERT for datagram in datagrams for one in split_untrusted(datagram))


def _challenge(datagram: bytes) -> bool:
    return datagram[HEADER_LENGTH : HEADER_LENGTH + 1] == bytes((HELLO_VERIFY_REQUEST,))


def _run(run: Run) -> Found:
    failures: list[str] = []
    chance = random.Random(run.seed)
    patience_s = 10.0 if run.fault is None else 0.5
    with attacked(run, _FAULTS) as target:
        victim = target.peer()
        with spoofer(target.address, victim.shared_port()) as attacker:

            def kind(name: str) -> None:
                for start in range(0, run.runs, _AT_ONCE):
                    count = min(_AT_ONCE, run.runs - start)
                    forged = ((_KINDS[name](chance), "127.0.0.1") for _ in range(count))
                    tally = flood(target, attacker, forged)
                    heard = victim.lying()
                    if _alerts(heard):
                        failures.append(f"{name}: {_alerts(heard)} alerts sent")
                    if unasked := [one for one in heard if not _challenge(one)]:
                        failures.append(f"{name}: {len(unasked)} answers")
                    if tally.unaccounted() or tally.more("messages", "bug"):
                        failures.append(f"{name}: lost or raised")
                if not is_well(victim, within_s=patience_s):
                    failures.append(f"{name}: the next record is not delivered")

            for done, name in enumerate(_KINDS):
                if failures:
                    break
                kind(name)
                run.progress(run.runs * (done + 1) // len(_KINDS))
        if run.fault is None and not _closes(victim):
            failures.append("an alert of the node itself does not close")
    return Found(failures, {"kinds": len(_KINDS)})


def _closes(victim: Peer) -> bool:
    """The other way round: what is authentic is believed."""
    victim.say_goodbye()
    return not is_well(victim, within_s=0.2)


# -- faults


def _believed() -> AbstractContextManager[object]:
    receive = Association._receive_many_untrusted

    def careless(self: Association, datagram: bytes, now: float) -> list[bytes]:
        if datagram[0] == ALERT and len(datagram) == HEADER_LENGTH + 2:
            self._alert(datagram[HEADER_LENGTH:])
        return receive(self, datagram, now)

    return patch.object(Association, "_receive_many_untrusted", careless)


def _window_first() -> AbstractContextManager[object]:
    open_parsed = Opener.open_parsed_untrusted

    def careless(
        self: Opener, record: bytes, content_type: int, version: int, counter: int, length: int
    ) -> bytes:
        before = self._newest, self._seen
        self.mark_seen(counter - (1 << 48))
        after = self._newest, self._seen
        self._newest, self._seen = before
        plaintext = b""
        try:
            plaintext = open_parsed(self, record, content_type, version, counter, length)
        finally:
            self._newest, self._seen = after
        return plaintext

    return patch.object(Opener, "open_parsed_untrusted", careless)


_FAULTS: Faults = {
    "clear-alert-believed": ("an alert in the clear closes the association", _believed),
    "window-first": ("a number enters the window before its record is authentic", _window_first),
}

register(
    Experiment(
        id="S-06",
        name="forged-records",
        target="the next record is delivered, 0 alerts sent",
        unit="datagrams of each kind",
        short=100,
        long=10_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=3,
    )
)
