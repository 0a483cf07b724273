"""Options that are too long, too many, unknown, or there twice."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from gateway.coap import message as wire
from gateway.coap import options
from gateway.coap.message import Message
from gateway.coap.numbers import OPTIONS, Code, Option, Type, dotted
from gateway.ingress.guard import CRITICAL
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import GOOD

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults

_LANES = (
    (Code.POST, ((11, b"v"), (12, b"\x70")), GOOD, "2.04"),  # with no more: the fast lane
    (Code.GET, ((11, b"time"),), b"", "2.05"),
)
"""Code, options, payload, and the answer when nothing is wrong."""

_UNKNOWN_ELECTIVE = 65_000
_RESET = "Reset"
_GOOD_ANSWER = "its usual answer"


class _Case(NamedTuple):
    name: str
    more: tuple[tuple[int, bytes], ...]
    """Options."""
    expected: str
    padding: int = 0
    """Bytes of payload behind the usual ones."""


def _fixed() -> list[_Case]:
    """What is tried in full every time."""
    repeated = (
        (Option.URI_HOST, b"gw", "4.02"),
        (Option.URI_PORT, b"\x16", "4.02"),
        (Option.ACCEPT, b"", "4.02"),
        (Option.BLOCK2, b"\x02", "4.02"),
        (Option.BLOCK1, b"", "4.02"),
        (Option.CONTENT_FORMAT, b"\x70", _GOOD_ANSWER),
        (Option.OBSERVE, b"", _GOOD_ANSWER),
        (Option.NO_RESPONSE, b"", _GOOD_ANSWER),
    )
    return [
        *(
            _Case(f"{size} bytes more", (), "4.13", padding=size)
            for size in (1_300, 4_000, 9_000, 15_000)
        ),
        _Case(
            "an elective option of 1,000 bytes", ((_UNKNOWN_ELECTIVE, bytes(1000)),), _GOOD_ANSWER
        ),
        _Case("a critical option of 1,000 bytes", ((Option.URI_QUERY, b"q" * 1000),), "4.02"),
        _Case("one option of 15,000 bytes", ((_UNKNOWN_ELECTIVE, bytes(15_000)),), "4.13"),
        _Case("62 empty options more", ((_UNKNOWN_ELECTIVE, b""),) * 62, _GOOD_ANSWER),
        _Case("64 empty options more", ((_UNKNOWN_ELECTIVE, b""),) * 64, _RESET),
        _Case("1,000 empty options more", ((_UNKNOWN_ELECTIVE, b""),) * 1000, _RESET),
        _Case("15,000 empty options more", ((_UNKNOWN_ELECTIVE, b""),) * 15_000, "4.13"),
        *(
            _Case(f"{number} twice", ((number, value),) * 2, said)
            for number, value, said in repeated
        ),
        *(
            _Case(f"{number}, critical and not for here", ((number, b""),), "4.02")
            for number in OPTIONS
            if number & 1 and number not in CRITICAL
        ),
    ]


def _at_random(chance: random.Random) -> _Case:
    number = chance.choice((chance.randrange(1, 65_536), chance.randrange(1, 300)))
    while number in OPTIONS:
        number = chance.randrange(1, 65_536)
    value = chance.randbytes(chance.choice((0, 1, 8, 300)))
    expected = "4.02" if number & 1 else _GOOD_ANSWER
    return _Case(f"unknown option {number}", ((number, value),), expected)


def _run(run: Run) -> Found:
    chance = random.Random(run.seed)
    fixed = _fixed()
    cases = itertools.chain(fixed, iter(lambda: _at_random(chance), None))
    failures = []
    done = 0
    with attacked(run, _FAULTS) as target:
        peer = target.peer()
        process = target.process()
        began = process.cpu_times() if process else None
        for done, case in enumerate(itertools.islice(cases, max(run.runs, len(fixed))), 1):
            for code, base, payload, usual in _LANES:
                if code == Code.GET and case.padding:
                    payload = b"x"
                mid = peer.next_mid()
                asked = tuple(sorted([*base, *case.more], key=lambda one: one[0]))
                body = payload + bytes(case.padding)
                peer.say(wire.encode(Message(Type.CON, code, mid, b"t", asked, body)))
                got = peer.answer(mid)
                said = _RESET if got.type is Type.RST else dotted(got.code)
                expected = usual if case.expected is _GOOD_ANSWER else case.expected
                if (said, got.mid) != (expected, mid):
                    failures.append(f"{case.name}: {said}, not {expected}")
                if expected == "4.02":
                    non = Message(Type.NON, code, peer.next_mid(), b"n", asked, body)
                    peer.say(wire.encode(non))
                    if peer.hears():
                        failures.append(f"{case.name}: an answer to a Non-confirmable message")
            run.progress(min(done, run.runs))
        figures: dict[str, object] = {"cases": done}
        if process and began:
            figures["CPU us a message"] = round(
                (sum(process.cpu_times()[:2]) - sum(began[:2])) / done / len(_LANES) * 1e6
            )
        counts = target.counts()
    if counts.get("bug", 0) or counts.get("other.bugs", 0):
        failures.append(f"bugs were counted: {counts}")
    return Found(failures, figures)


# -- faults


def _everything_is_elective() -> AbstractContextManager[object]:
    def obliging(found: options.Options, understood: object) -> options.Accepted:
        kept = tuple(one for one in found if one[0] in CRITICAL or not one[0] & 1)
        return options.Accepted(kept, None)

    return patch.object(options, "accept", obliging)


_FAULTS: Faults = {
    "no-cap": ("any number of options", lambda: patch.object(options, "MAX_OPTIONS", 1 << 30)),
    "no-size": ("datagrams of any size", lambda: patch.object(wire, "MAX_DATAGRAM", 1 << 16)),
    "obliging": ("unknown critical options are skipped", _everything_is_elective),
}

register(
    Experiment(
        id="S-11",
        name="options",
        target=(
            "datagrams above 1,280 B refused before parsing; at most 64 options; 4.02 for an "
            "unknown or repeated critical one, silence if Non-confirmable; both lanes"
        ),
        unit="cases",
        short=100,
        long=10_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=1,
    )
)
