"""Handshakes out of order: application data is taken on legal ways only, and nothing is left.

Each sequence is played in two ways. *Delivered*: the client has said everything in order, with its
numbers, and the network delivers it in this order; DTLS puts that right, so it is legal once all is
there. *Said*: the client says it in this order, numbered so; only one order is legal then.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, nullcontext
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from OpenSSL import SSL

from gateway.dtls import cookie
from gateway.dtls.engines.openssl import OpensslEngine
from gateway.dtls.handshake import DEADLINE_S
from gateway.dtls.records import HANDSHAKE, HEADER_LENGTH
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.dtls_server import Inside, path
from tests.experiments.rigs.hostile import described
from tests.experiments.rigs.puppet import Puppet, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from gateway.dtls.association import Path
    from tests.experiments.rigs.hostile import Faults

_HELLO, _COOKIE, _CERT, _KEX, _VERIFY = "CH", "CH+cookie", "Cert", "CKE", "CV"
_CHANGE, _FINISHED, _DATA, _ALERT = "CCS", "Finished", "AppData", "Alert"
_FLIGHTS: Final = {
    False: (_KEX, _CHANGE, _FINISHED),
    True: (_CERT, _KEX, _VERIFY, _CHANGE, _FINISHED),
}
"""With a certificate or without."""

_MAKE: Final[dict[str, Callable[[Puppet], bytes]]] = {
    _CERT: Puppet.certificate,
    _KEX: Puppet.key_exchange,
    _VERIFY: Puppet.certificate_verify,
    _CHANGE: Puppet.change_cipher_spec,
    _FINISHED: Puppet.finished,
    _DATA: lambda puppet: puppet.data(b"planted"),
    _ALERT: Puppet.alert,
}
_NUMBERED: Final[dict[str, Callable[[Puppet, int], bytes]]] = {
    _CERT: Puppet.certificate,
    _KEX: Puppet.key_exchange,
    _VERIFY: Puppet.certificate_verify,
    _FINISHED: Puppet.finished,
}
_LONGEST: Final = 6
_LEFT: Final = 16
"""Record numbers: two flights need fewer."""


def _sequences(*, certified: bool) -> Iterator[tuple[str, ...]]:
    """All of up to six messages."""
    messages = (_HELLO, _COOKIE, *_FLIGHTS[certified], _DATA, _ALERT)
    for length in range(1, _LONGEST + 1):
        yield from permutations(messages, length)


class _Play:
    """One gateway, on which every sequence has an address of its own."""

    def __init__(self, run: Run) -> None:
        self.inside = Inside(run.seed)
        self._number = 0
        self.legal = 0
        self.failures: list[str] = []
        self._stale = {one: self._recorded(certified=one) for one in (False, True)}

    def _recorded(self, *, certified: bool) -> dict[str, bytes]:
        """The messages of an earlier association, for what comes before there is a new one."""
        puppet = self.start(certified=certified)[0]
        at = path(self._number)
        self.inside.greet(puppet, at)
        made = {one: _MAKE[one](puppet) for one in (*_FLIGHTS[certified], _DATA, _ALERT)}
        for one in _FLIGHTS[certified]:
            self.inside.give(made[one], at)
        self._clear()
        return made

    def start(self, *, certified: bool) -> tuple[Puppet, Path]:
        """A client with a cookie."""
        self._number += 1
        puppet, at = self.inside.puppet(certified=certified), path(self._number)
        self.inside.give(puppet.hello(), at)
        puppet.hear(self.inside.take())
        return puppet, at

    def sequence(self, order: Sequence[str], *, certified: bool, said: bool) -> None:
        """Play it; data that comes through must have come in a legal way."""
        puppet, at = self.start(certified=certified)
        ready: dict[str, bytes] = {}
        seq, taken = 2, False
        for place, one in enumerate(order):
            if one == _HELLO:
                cookie, puppet.cookie = puppet.cookie, b""
                datagram = record(HANDSHAKE, 0, puppet.hello()[HEADER_LENGTH:])
                puppet.cookie = cookie
            elif one == _COOKIE:
                datagram = puppet.hello()
            elif _COOKIE not in order[:place]:
                datagram = self._stale[certified][one]
            elif not said:
                datagram = ready[one]
            elif one in _NUMBERED:
                datagram = _NUMBERED[one](puppet, seq)
                seq += 1
            else:
                datagram = _MAKE[one](puppet)
            taken = b"planted" in self._give(order, datagram, at) or taken
            if one == _COOKIE:
                puppet.hear(self.inside.take())
                if not said:
                    ready = {
                        made: _MAKE[made](puppet) for made in (*_FLIGHTS[certified], _DATA, _ALERT)
                    }
        legal = _legal(order, certified=certified, said=said)
        if taken and not legal:
            way = f"{'certificate' if certified else 'key'}, {'said' if said else 'delivered'}"
            self.failures.append(f"data taken after {' '.join(order)} ({way})")
        if not taken and order == (_COOKIE, *_FLIGHTS[certified], _DATA):
            self.failures.append(f"data refused after {' '.join(order)}")
        self.legal += taken
        self._clear(order)

    def odd(self, name: str, *, certified: bool) -> None:
        """A flight taken apart somehow; data only after all of it."""
        puppet, at = self.start(certified=certified)
        self.inside.give(puppet.hello(), at)
        puppet.hear(self.inside.take())
        records, whole = _odd_flights(puppet, certified=certified)[name]
        if "twice" not in name:
            records = [_numbered(one, number) for number, one in enumerate(records, 10)]
        taken = False
        for one in [*records, puppet.data(b"planted")]:
            taken = b"planted" in self._give([name], one, at) or taken
        if taken != whole:
            self.failures.append(f"{name}: data {'taken' if taken else 'refused'}")
        self.legal += taken
        self._clear([name])

    def numbers_end(self, left: int, *, certified: bool) -> None:
        """A hello after whose record number there are ``left``; what follows is repeated."""
        puppet, at = self.start(certified=certified)
        name = f"{left} record numbers left"
        self._give([name], _numbered(puppet.hello(), (1 << 48) - 1 - left), at)
        for _ in range(int(DEADLINE_S)):
            self.inside.now += 1.0
            try:
                self.inside.server.sweep(self.inside.now)
            except Exception as error:
                self.failures.append(f"{name}, a sweep: {error!r}")
                break
        self._clear([name])

    def _give(self, order: Sequence[str], datagram: bytes, at: Path) -> list[bytes]:
        try:
            return self.inside.give(datagram, at)
        except Exception as error:
            self.failures.append(f"{' '.join(order)}: {error!r}")
            return []

    def _clear(self, order: Sequence[str] = ()) -> None:
        server = self.inside.server
        self.inside.now += DEADLINE_S + 1.0
        server.sweep(self.inside.now)
        if server.half_open():
            self.failures.append(f"{' '.join(order)}: {server.half_open()} half open afterwards")
        server.close(None, "next case")
        if server.associations():
            self.failures.append(f"{' '.join(order)}: an association is left")
        server.outgoing.clear()
        server.events.clear()


def _legal(order: Sequence[str], *, certified: bool, said: bool) -> bool:
    """Whether data may come through.

    An alert in the clear ends a handshake only before ChangeCipherSpec: after it, what is not
    protected is nobody's.
    """
    if _COOKIE not in order:
        return False
    after = [one for one in order[order.index(_COOKIE) + 1 :] if one != _HELLO]
    flight = _FLIGHTS[certified]
    if not set(flight) <= set(after):
        return False
    if _ALERT in after and after.index(_ALERT) < after.index(_CHANGE):
        return False
    numbered = [one for one in after if one in _NUMBERED]
    return not said or numbered == [one for one in flight if one in _NUMBERED]


# -- what is not a sequence of whole messages


def _cut(whole: bytes, cuts: Sequence[tuple[int, int]], total: int | None = None) -> list[bytes]:
    """A handshake record as fragments (start, end) of its message."""
    head, body = whole[HEADER_LENGTH : HEADER_LENGTH + 12], whole[HEADER_LENGTH + 12 :]
    size = head[1:4] if total is None else total.to_bytes(3, "big")
    made = []
    for start, end in cuts:
        part = body[start:end]
        place = start.to_bytes(3, "big") + len(part).to_bytes(3, "big")
        fragment = head[:1] + size + head[4:6] + place + part
        made.append(record(HANDSHAKE, 0, fragment))
    return made


def _odd_flights(puppet: Puppet, *, certified: bool) -> dict[str, tuple[list[bytes], bool]]:
    """Name -> records that stand for the flight, and whether they are all of it."""
    flight = puppet.flight()
    at = 1 if certified else 0  # the key exchange
    before, kex, after = flight[:at], flight[at], flight[at + 1 :]
    body = len(kex) - HEADER_LENGTH - 12
    ones = [(n, n + 1) for n in range(body)]
    overlap = [(0, body - 1), (1, body)]
    return {
        "every message twice": ([one for one in flight for _ in range(2)], True),
        "the flight twice": (flight * 2, True),
        "fragments of one byte": ([*before, *_cut(kex, ones), *after], True),
        "fragments of one byte, backwards": ([*before, *_cut(kex, ones[::-1]), *after], True),
        "fragments that overlap": ([*before, *_cut(kex, overlap), *after], True),
        "a gap between fragments": ([*before, *_cut(kex, [(0, 1), (2, body)]), *after], False),
        "an empty fragment only": ([*before, *_cut(kex, [(0, 0)]), *after], False),
        "a length of 2^24-1": ([*before, *_cut(kex, [(0, body)], 0xFFFFFF), *after], False),
        "a fragment beyond the end": ([*before, *_cut(kex, [(1, body)], body - 1), *after], False),
        "fragments that disagree on the length": (
            [*before, *_cut(kex, [(0, 1)]), *_cut(kex, [(1, body)], body + 1), *after],
            False,
        ),
        "epoch 1 in the clear": ([*before, _epoch(kex, 1), *after], False),
        "epoch 2": ([*before, _epoch(kex, 2), *after], False),
        "epoch 65535": ([*before, _epoch(kex, 65_535), *after], False),
        "change_cipher_spec of epoch 1": ([*flight[:-2], _epoch(flight[-2], 1), flight[-1]], False),
        "Finished of epoch 2": ([*flight[:-1], _epoch(flight[-1], 2)], False),
        "Finished in the clear": ([*flight[:-1], _epoch(flight[-1], 0)], False),
        "no change_cipher_spec": ([*flight[:-2], flight[-1]], False),
    }


def _numbered(whole: bytes, number: int) -> bytes:
    """A record in the clear with another number, as if nothing had been sent twice."""
    return whole[:5] + number.to_bytes(6, "big") + whole[11:] if whole[4] == 0 else whole


def _epoch(whole: bytes, epoch: int) -> bytes:
    return whole[:3] + epoch.to_bytes(2, "big") + whole[5:]


def _shortened() -> list[tuple[tuple[str, ...], bool, bool]]:
    """The legal ways, and those with some messages left out."""
    return [
        ((_COOKIE, *some, _DATA), certified, said)
        for certified in (False, True)
        for length in range(len(_FLIGHTS[certified]) + 1)
        for some in combinations(_FLIGHTS[certified], length)
        for said in (False, True)
    ]


def _run(run: Run) -> Found:
    every = [
        (order, certified, said)
        for certified in (False, True)
        for order in _sequences(certified=certified)
        for said in (False, True)
    ]
    if run.runs < len(every):
        chance = random.Random(run.seed)
        some = [*_shortened(), *(one for one in every if len(one[0]) <= 2)]
        every = some + chance.sample(every, max(0, run.runs - len(some)))
    else:
        every += _shortened()
    with nullcontext() if run.fault is None else _FAULTS[run.fault][1]():
        play = _Play(run)
        for done, (order, certified, said) in enumerate(every):
            play.sequence(order, certified=certified, said=said)
            run.progress(done + 1)
        names = list(_odd_flights(play.start(certified=False)[0], certified=False))
        for certified in (False, True):
            for name in names:
                play.odd(name, certified=certified)
            for left in range(_LEFT):
                play.numbers_end(left, certified=certified)
    figures = {"sequences": len(every), "taken apart": 2 * len(names), "legal": play.legal}
    return Found(play.failures, figures)


# -- faults


def _no_finished() -> AbstractContextManager[object]:
    return patch.object(OpensslEngine, "done", lambda self: self.keys() is not None)


def _numbers_wrap() -> AbstractContextManager[object]:
    return patch.object(cookie, "_LAST_RECORD", (1 << 48) - 1)


def _nobody_asked() -> AbstractContextManager[object]:
    stack = ExitStack()
    for name in ("VERIFY_PEER", "VERIFY_FAIL_IF_NO_PEER_CERT"):
        stack.enter_context(patch.object(SSL, name, 0))
    return stack


_FAULTS: Faults = {
    "no-finished": ("an association begins with its keys, before Finished", _no_finished),
    "numbers-wrap": ("a hello may have any record number", _numbers_wrap),
    "nobody-asked": ("a client need not show a certificate", _nobody_asked),
}

register(
    Experiment(
        id="S-07",
        name="handshake-order",
        target="application data taken on legal ways only, of all permutations of up to 6 "
        "messages, fragments and epochs; no crash, not where record numbers end either; nothing "
        "left half open",
        unit="sequences",
        short=1500,
        long=200_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=500,
    )
)
