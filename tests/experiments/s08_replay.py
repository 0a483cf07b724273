"""Replay: whatever was captured and whenever it is sent again, nothing is delivered twice."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.records import ALERT, WINDOW, Opener
from gateway.errors import DtlsError
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.dtls_server import Inside, path
from tests.experiments.rigs.hostile import described

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults

_TIMES: Final = 3
_CLOSE_NOTIFY: Final = bytes((1, 0))


class _Association:
    """One association, everything that was sent in it, and what was delivered of that."""

    def __init__(self, run: Run, *, certified: bool) -> None:
        self.inside = Inside(run.seed)
        self._at = path(1)
        self.puppet = self.inside.puppet(certified=certified)
        self.captured: list[bytes] = []
        self.delivered: list[bytes] = []
        for _ in range(2):
            self.send(self.puppet.hello())
        for record in self.puppet.flight():
            self.send(record)

    def send(self, datagram: bytes) -> None:
        self.captured.append(datagram)
        self.play([datagram])

    def play(self, datagrams: list[bytes]) -> None:
        """Send what may have been sent before."""
        for datagram in datagrams:
            self.delivered += self.inside.give(datagram, self._at)
            self.puppet.hear(self.inside.take())

    def twice(self) -> int:
        """How many plaintexts were delivered more than once."""
        return len(self.delivered) - len(set(self.delivered))


def _each_again(run: Run, *, certified: bool) -> list[str]:
    """Each record three times; then all of them in three orders, before the end and after."""
    one = _Association(run, certified=certified)
    for number in range(run.runs):
        one.send(one.puppet.data(b"%d" % number))
        one.play(one.captured[-1:] * (_TIMES - 1))
        run.progress(number + 1)
    shuffled = random.Random(run.seed).sample(one.captured, len(one.captured))
    orders = one.captured, one.captured[::-1], shuffled
    failures = []
    if len(one.delivered) < run.runs:
        failures.append(f"{len(one.delivered)} of {run.runs} records delivered at all")
    for order in orders:
        one.play(order)
    one.send(one.puppet.protect(ALERT, _CLOSE_NOTIFY))
    if one.inside.server.associations():
        failures.append("close_notify does not close")
    for order in orders:
        one.play(order)
        # Also when the cookie in the captured hello is too old for a handshake.
        one.inside.now += 100.0
        one.inside.server.sweep(one.inside.now)
    if one.twice():
        failures.append(f"{one.twice()} records delivered twice")
    return failures


def _window(run: Run) -> list[str]:
    """Numbers on both sides of the window's edge, in any order, each three times."""
    chance = random.Random(run.seed)
    one = _Association(run, certified=False)
    failures = []
    newest = 0
    for _ in range(max(4, run.runs // 100)):
        numbers = list(range(newest + 1, newest + 2 * WINDOW + 2))
        records = {number: one.puppet.data(b"w%d" % number) for number in numbers}
        one.play([records[numbers[WINDOW]]])
        for number in chance.sample(numbers, len(numbers)):
            before = len(one.delivered)
            one.play([records[number]] * _TIMES)
            newest = max(newest, number)
            # Once, unless it was delivered before or lies left of the window.
            if len(one.delivered) - before > 1:
                failures.append(f"number {number - newest} behind the newest: delivered twice")
        one.play([records[number] for number in numbers] * _TIMES)
    if one.twice():
        failures.append(f"{one.twice()} records at the window's edge delivered twice")
    # The oldest that the window holds is taken once, and the one before it not at all.
    records = {n: one.puppet.data(b"e%d" % n) for n in range(WINDOW + 1)}
    before = set(one.delivered)
    one.play([records[WINDOW], records[1], records[0], records[1], records[0]])
    taken = [int(plaintext[1:]) for plaintext in one.delivered if plaintext not in before]
    if taken != [WINDOW, 1]:
        failures.append(f"taken at the window's edge: {taken}, not {[WINDOW, 1]}")
    return failures


def _run(run: Run) -> Found:
    with nullcontext() if run.fault is None else _FAULTS[run.fault][1]():
        failures = [
            *_each_again(run, certified=False),
            *_each_again(run, certified=True),
            *_window(run),
        ]
    return Found(failures, {"datagrams": 2 * run.runs * (_TIMES + 7)})


# -- faults


def _not_updated() -> AbstractContextManager[object]:
    return patch.object(Opener, "mark_seen", lambda self, number: None)


def _off_by_one() -> AbstractContextManager[object]:
    def careless(
        self: Opener, record: bytes, content_type: int, version: int, counter: int, length: int
    ) -> bytes:
        number = counter - (1 << 48)
        ahead = number - self._newest
        if ahead <= 0 and (ahead < -WINDOW or self._seen >> -ahead & 1):
            raise DtlsError("replayed record")
        plaintext = self._authenticate_untrusted(record, content_type, version, counter, length)
        self.mark_seen(number)
        return plaintext

    return patch.object(Opener, "open_parsed_untrusted", careless)


_FAULTS: Faults = {
    "not-updated": ("what was opened is not entered into the window", _not_updated),
    "off-by-one": ("a record just left of the window is taken", _off_by_one),
}

register(
    Experiment(
        id="S-08",
        name="replay",
        target="0 records delivered twice: each three times, whole associations, window edge, "
        "after close",
        unit="records",
        short=500,
        long=50_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=50,
    )
)
