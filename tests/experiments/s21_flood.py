"""One node with a key sends as fast as it can: it is limited, nobody else suffers."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from typing import TYPE_CHECKING
from unittest.mock import patch

from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type, dotted
from gateway.ingress.rate import REFUSALS_PER_S, Rates
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import GOOD

if TYPE_CHECKING:
    from tests.experiments.rigs.hostile import Faults
    from tests.integration.peer import Peer

_RATE = 50.0
_EMERGENCIES_PER_S = 10.0
_BURST_S = 2.0
_PER_S = 10_000
_OTHERS = 4
_AT_LEAST = 8
"""Packs of theirs."""
_LONGEST = 2
"""Times its size, if they need so long for those."""
_AGAIN_S = (2.0, 4.0, 8.0, 16.0)
"""When a node repeats what is not answered: on a busy machine the kernel drops some."""
_EMERGENCY_EACH = 20
"""One message in so many of the flood is declared an emergency."""
_BOTH_LANES = 4
"""One in so many goes to the lane of the full implementation."""
_ELECTIVE = (65_000, b"x")
_FAST_LANE, _OTHER_LANE = b"-", b"+"
"""In the tokens of what goes there."""
_SWITCH_S = 0.0002
"""The interpreter's turns: the flood's threads must not hold up those who measure."""


class _Flood:
    """10,000 messages a second of one association, counted by what became of them."""

    def __init__(self, peer: Peer, count: int) -> None:
        self._peer = peer
        self._count = count
        self.sent = 0
        self.stored = 0
        self.emergencies = 0
        self.refused = 0
        self.refused_without_age = 0
        self.began = self.ended = time.monotonic()
        self.over = threading.Event()
        self.watched = threading.Event()
        """Others have sent what they send at least, so the flood may end."""
        self._sender = threading.Thread(target=self._send)
        self._hearer = threading.Thread(target=self._hear)

    def start(self) -> None:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._hearer.start()
        self._sender.start()

    def join(self) -> None:
        self._sender.join()
        self.over.set()
        self._hearer.join()
        sys.setswitchinterval(self._interval)

    def _message(self, number: int) -> bytes:
        path = b"a" if number % _EMERGENCY_EACH == 0 else b"v"
        lane = _FAST_LANE
        options = [(int(Option.URI_PATH), path), (int(Option.CONTENT_FORMAT), b"\x70")]
        if number % _BOTH_LANES == 1:
            options.append(_ELECTIVE)
            lane = _OTHER_LANE
        mid = number & 0xFFFF
        token = path + lane + number.to_bytes(4, "big")  # or the next round would be repetitions
        return wire.encode(Message(Type.CON, Code.POST, mid, token, tuple(options), GOOD))

    def _send(self) -> None:
        self.began = time.monotonic()
        for number in itertools.count():
            if number >= self._count * (1 if self.watched.is_set() else _LONGEST):
                break
            due = self.began + number / _PER_S
            if number % 100 == 0 and (left := due - time.monotonic()) > 0:
                self.over.wait(left)
            self._peer.say(self._message(number))
            self.sent += 1
        self.ended = time.monotonic()

    def _hear(self) -> None:
        """Until the flood is over and nothing has come for a moment."""
        while True:
            try:
                answer = wire.decode_untrusted(self._peer.hear(0.2))
            except AssertionError:
                if self.over.is_set():
                    return
                continue
            if answer.code == Code.CHANGED:
                self.stored += 1
                self.emergencies += answer.token[:1] == b"a"
            elif answer.code == Code.TOO_MANY_REQUESTS and answer.token[1:2] == _FAST_LANE:
                # In the other it may also mean: too many at once.
                self.refused += 1
                self.refused_without_age += answer.uint(Option.MAX_AGE) is None

    def allowed(self, per_s: float) -> float:
        """Messages that such a bucket lets through in the flood's time, and a second more."""
        return per_s * (self.ended - self.began + _BURST_S + 1)


def _in_turn(
    peers: list[Peer], over: threading.Event, watched: threading.Event, failures: list[str]
) -> list[float]:
    """Milliseconds of the others' packs, one after another until it is over; so many at least."""
    took: list[float] = []
    for number in itertools.count():
        if number == _AT_LEAST:
            watched.set()
        if over.is_set() and watched.is_set():
            return took
        began = time.monotonic()
        said = _ask(peers[number % len(peers)], number)
        took.append(1000 * (time.monotonic() - began))
        if said != "2.04":
            failures.append(f"another node: {said}")
        # As bracelets do: each once in a while, and below its own rate.
        over.wait(len(peers) / _RATE / 4)
    raise AssertionError


def _ask(peer: Peer, number: int) -> str:
    """One pack as a node sends it, again if need be; what was answered."""
    mid = peer.next_mid()
    token = number.to_bytes(4, "big")
    options = ((int(Option.URI_PATH), b"v"), (int(Option.CONTENT_FORMAT), b"\x70"))
    asked = wire.encode(Message(Type.CON, Code.POST, mid, token, options, GOOD))
    for patience_s in _AGAIN_S:
        peer.say(asked)
        with contextlib.suppress(AssertionError):
            while (answer := wire.decode_untrusted(peer.hear(patience_s))).token != token:
                pass  # to a repetition of the one before
            return dotted(answer.code)
    return "no answer"


def _p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def _run(run: Run) -> Found:
    failures: list[str] = []
    with attacked(run, _FAULTS, rate=_RATE) as target:
        others = [target.peer() for _ in range(_OTHERS)]
        calm_is_over = threading.Event()
        threading.Timer(run.runs / _PER_S if run.long else 0, calm_is_over.set).start()
        calm = _in_turn(others, calm_is_over, threading.Event(), failures)
        flood = _Flood(target.peer(), run.runs)
        process = target.process()
        before = process.cpu_times() if process else None
        flood.start()
        ended = threading.Thread(target=flood.join)
        ended.start()
        stormy = _in_turn(others, flood.over, flood.watched, failures)
        ended.join()
        counts = target.counts()
        used = sum(process.cpu_times()[:2]) - sum(before[:2]) if process and before else 0.0
    run.progress(run.runs)
    if flood.stored - flood.emergencies > 2 * flood.allowed(_RATE):
        failures.append(f"{flood.stored} of {flood.sent} were stored: more than its rate")
    if flood.emergencies > 2 * flood.allowed(_EMERGENCIES_PER_S):
        failures.append(f"{flood.emergencies} emergencies were stored: more than their rate")
    if not flood.emergencies:
        failures.append("none of its emergencies was taken")
    if not flood.refused or flood.refused_without_age:
        failures.append(f"4.29: {flood.refused}, {flood.refused_without_age} without Max-Age")
    if counts.get("bug", 0) or counts.get("other.bugs", 0):
        failures.append(f"bugs were counted: {counts}")
    ratio = _p99(stormy) / _p99(calm)
    if run.long and ratio > 1.2:
        failures.append(f"p99 of the others is {ratio:.2f} times what it was")
    return Found(
        failures,
        {
            "sent a second": round(flood.sent / (flood.ended - flood.began)),
            "stored": flood.stored,
            "of them emergencies": flood.emergencies,
            "4.29": flood.refused,
            "CPU us a message": round(1e6 * used / flood.sent),
            "others' p99 ms, calm": round(_p99(calm), 1),
            "in the flood": round(_p99(stormy), 1),
        },
    )


_FAULTS: Faults = {
    "no-bucket": ("the rate is not limited", lambda: patch.object(Rates, "over", lambda *_: False)),
    "one-bucket": (
        "all devices share one bucket",
        lambda: patch.object(
            # Of messages; each is told of it in a refusal of its own.
            Rates,
            "over",
            lambda self, device, now, over=Rates.over: over(
                self, device if self.per_s == REFUSALS_PER_S else "", now
            ),
        ),
    ),
}

register(
    Experiment(
        id="S-21",
        name="flood",
        target=(
            "one node at 10,000 messages/s: 4.29 by its bucket, then silence; its emergencies "
            "limited, not zero; others all answered 2.04, p99 <= 1.2x"
        ),
        unit="messages",
        short=2_000,
        long=600_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=1_500,
    )
)
