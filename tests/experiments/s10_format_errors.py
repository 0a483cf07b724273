"""Messages with a format error (RFC 7252 section 3): rejected or ignored, never processed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from unittest.mock import patch

from gateway.coap import fastlane, options
from gateway.coap import message as wire
from gateway.coap.numbers import Code, Type
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults

_AT_ONCE = 32
_FIRST_MID = 0x8000
"""The node's own are below."""

_LANES = (
    (Code.POST, b"\xb1v\x11\x70", b"\xff" + GOOD),  # the fast lane claims its like
    (Code.GET, b"\xb4time", b""),
)
"""Code, options, payload with its marker, of a message that only the error keeps from being
processed. The last option is 12 and 11."""


class _Base:
    """What a malformed message is made from."""

    def __init__(self, chance: random.Random, lane: int, mid: int) -> None:
        self.chance = chance
        self.code, self.options, self.payload = _LANES[lane]
        self.token = chance.randbytes(chance.randrange(9))
        self.mid = mid.to_bytes(2, "big")

    def bytes(
        self, *, more: bytes = b"", code: int | None = None, length: int | None = None
    ) -> bytes:
        """Confirmable; ``more`` after the options, ``length`` said of the token."""
        size = len(self.token) if length is None else length
        head = bytes((0x40 | size, self.code if code is None else code)) + self.mid
        return head + self.token + self.options + more + self.payload


def _reserved_token_length(base: _Base) -> bytes:
    base.token = base.chance.randbytes(base.chance.randrange(9, 16))
    return base.bytes()


def _reserved_class(base: _Base) -> bytes:
    return base.bytes(code=base.chance.choice((1, 6, 7)) << 5 | base.chance.randrange(32))


def _marker_only(base: _Base) -> bytes:
    base.payload = b"\xff"
    return base.bytes()


def _not_text(base: _Base) -> bytes:
    base.options = b"\xb2\xc3\x28" + (b"\x11\x70" if base.payload else b"")
    return base.bytes()


def _empty_with(base: _Base) -> bytes:
    base.token, base.options = base.chance.choice(((b"t", b""), (b"", b"\xb1v"), (b"t", b"\xb1v")))
    return base.bytes(code=Code.EMPTY)


def _then(more: bytes) -> Callable[[_Base], bytes]:
    return lambda base: base.bytes(more=more)


def _cut(more: bytes) -> Callable[[_Base], bytes]:
    """Nothing follows."""

    def malformed(base: _Base) -> bytes:
        base.payload = b""
        return base.bytes(more=more)

    return malformed


def _empty_says_token(base: _Base) -> bytes:
    return bytes((0x40 | base.chance.randrange(1, 9), Code.EMPTY)) + base.mid


_ERRORS: dict[str, Callable[[_Base], bytes]] = {
    "token length 9 to 15": _reserved_token_length,
    "token cut short": lambda base: base.bytes(length=8)[: 4 + base.chance.randrange(8)],
    "code of class 1, 6 or 7": _reserved_class,
    "marker without payload": _marker_only,
    "delta 15": _then(b"\xf0"),
    "length 15": _then(b"\x0f"),
    "delta cut short": _cut(b"\xd0"),
    "length cut short": _cut(b"\x0e\x01"),
    "value cut short": _cut(b"\x05abcd"),
    "number above 65535": _then(b"\xe0\xff\xf0"),
    "path not UTF-8": _not_text,
    "query not UTF-8": lambda base: base.bytes(
        more=(b"\x31" if base.payload else b"\x41") + b"\xff"
    ),
    "65 options": _then(b"\xd0\xf0" + b"\x00" * 64),
    "empty with more": _empty_with,
    "empty that says it has a token": _empty_says_token,
}


def _cases(run: Run) -> list[tuple[str, bytes, bytes | None]]:
    """Name, datagram, answer: the whole list as often as it takes."""
    chance = random.Random(run.seed)
    cases: list[tuple[str, bytes, bytes | None]] = []
    while len(cases) < run.runs:
        for name, make in _ERRORS.items():
            for lane in range(len(_LANES)):
                for kind in Type:
                    mid = _FIRST_MID + len(cases) % _FIRST_MID
                    raw = bytearray(make(_Base(chance, lane, mid)))
                    raw[0] = raw[0] & 0xCF | kind << 4
                    answer = wire.reset(mid) if kind is Type.CON else None
                    cases.append((f"{name}, {kind.name}", bytes(raw), answer))
        for version in (0, 2, 3):
            good = _Base(chance, version & 1, 0).bytes()
            cases.append(
                (f"version {version}", bytes((version << 6 | good[0] & 15,)) + good[1:], None)
            )
        cases += [(f"{size} bytes", good[:size], None) for size in range(4)]
    return cases


def _run(run: Run) -> Found:
    failures = []
    cases = _cases(run)
    with attacked(run, _FAULTS) as target:
        peer = target.peer()
        before = target.counts()
        for start in range(0, len(cases), _AT_ONCE):
            some = cases[start : start + _AT_ONCE]
            for _, raw, _ in some:
                peer.say(raw)
            heard = peer.hears()
            for name, raw, answer in some:
                if answer is not None and answer not in heard:
                    failures.append(f"{name}: no Reset for {raw.hex()}")
            expected = [answer for _, _, answer in some if answer is not None]
            failures += [
                f"an answer to rubbish: {one.hex()}" for one in heard if one not in expected
            ]
            run.progress(min(start + len(some), run.runs))
        after = target.counts()
    for name in ("admitted", "other.dispatched", "bug", "other.bugs"):
        if after.get(name, 0) != before.get(name, 0):
            failures.append(f"{name}: {after[name] - before.get(name, 0)} messages were processed")
    return Found(
        failures, {"errors": len(_ERRORS) + 2, "resets": sum(a is not None for *_, a in cases)}
    )


# -- faults


def _lenient_marker() -> AbstractContextManager[object]:
    decode = options.decode_untrusted

    def lenient(data: bytes, offset: int) -> tuple[options.Options, int]:
        return decode(data.removesuffix(b"\xff"), offset)

    return patch.object(options, "decode_untrusted", lenient)


def _masked_token_length() -> AbstractContextManager[object]:
    claim = fastlane.claim

    def careless(plaintext: bytes) -> fastlane.Telemetry | None:
        if plaintext and plaintext[0] & 8 and plaintext[0] & 7:
            return claim(
                bytes((plaintext[0] & 0xF0,))
                + plaintext[1:4]
                + plaintext[4 + (plaintext[0] & 15) :]
            )
        return claim(plaintext)

    return patch.object(fastlane, "claim", careless)


_FAULTS: Faults = {
    "lenient-marker": ("a payload marker without a payload is taken", _lenient_marker),
    "token-length": ("the fast lane takes token lengths above 8", _masked_token_length),
}

register(
    Experiment(
        id="S-10",
        name="format-errors",
        target="RST or silence as RFC 7252 section 3 says, on both lanes; never processed",
        unit="messages",
        short=240,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=100,
    )
)
