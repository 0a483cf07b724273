"""Before an address is proven and a peer authenticated, no answer is larger than its request."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.coap.numbers import Code
from gateway.dtls import server
from gateway.dtls.cookie import Cookies
from gateway.dtls.records import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.dtls_server import Inside, path
from tests.experiments.rigs.flood import flood, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import Puppet, message, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from gateway.dtls.cookie import ClientHello
    from tests.experiments.rigs.hostile import Faults

_RESOURCES: Final = (
    *("v", "vitals", "a", "alarm", "s", "sealed", "sealed/alarm", "s/a"),
    *("time", ".well-known/core", "", "no-such"),
)
_VERSIONS: Final = (0x0000, 0x0100, 0x0303, 0x0304, 0xFEFC, 0xFEFD, 0xFEFE, 0xFEFF, 0xFFFF)


def _requests(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Name and datagram: everything that may be answered, as small as it can be."""
    hello = Puppet(chance).hello()
    body = Puppet(chance).hello_body()
    yield "smallest hello", hello
    for cookie in (1, 31, 32, 33, 255):
        puppet = Puppet(chance)
        puppet.cookie = chance.randbytes(cookie)
        yield f"cookie of {cookie} bytes", puppet.hello()
    for outer in _VERSIONS:
        for inner in _VERSIONS:
            changed = hello[:1] + outer.to_bytes(2, "big") + hello[3:25]
            yield f"version {outer:x}, {inner:x}", changed + inner.to_bytes(2, "big") + hello[27:]
    for size in range(len(body)):
        yield f"hello of {size} bytes", record(HANDSHAKE, 0, message(1, 0, body[:size]))
        old = b"\xfe\xff" + body[2:size]
        yield f"old hello of {size} bytes", record(HANDSHAKE, 0, message(1, 0, old))
    for size in range(len(hello)):
        yield f"first {size} bytes of a hello", hello[:size]
    yield "two hellos", hello + hello
    for kind in range(25):
        yield f"handshake message {kind}", record(HANDSHAKE, 0, message(kind, 0, b""))
    for content in (0, CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, 24, 25, 26, 255):
        for epoch in (0, 1, 2):
            for fragment in (b"", b"\1", b"\2\x28", bytes(40)):
                yield f"type {content}, epoch {epoch}", record(content, 0, fragment, epoch=epoch)
    for resource in _RESOURCES:
        parts = [part.encode() for part in resource.split("/") if part]
        for code in (Code.GET, Code.POST):
            asked = bytes((0x40, code, 0x12, 0x34))
            for place, part in enumerate(parts):
                asked += _option(0 if place else 11, part)
            yield f"/{resource} in the clear", asked
            yield f"/{resource} as application data", record(APPLICATION_DATA, 0, asked)
    yield "ping in the clear", b"\x40\x00\x12\x34"
    yield "nothing", b""


def _option(delta: int, value: bytes) -> bytes:
    """RFC 7252 section 3.1."""
    if len(value) < 13:
        return bytes((delta << 4 | len(value),)) + value
    return bytes((delta << 4 | 13, len(value) - 13)) + value


def _run(run: Run) -> Found:
    failures = []
    chance = random.Random(run.seed)
    every = list(_requests(chance))
    most, asked = 0.0, 0
    with nullcontext() if run.fault is None else _FAULTS[run.fault][1]():
        inside = Inside(run.seed)
        while asked < run.runs:
            for name, datagram in every:
                asked += 1
                inside.give(datagram, path(asked))
                answers = inside.take()
                size = sum(map(len, answers))
                if size > len(datagram):
                    failures.append(f"{name}: {size} bytes for {len(datagram)}")
                if datagram:
                    most = max(most, size / len(datagram))
            # Nothing comes later, either.
            inside.now += 1.0
            inside.server.sweep(inside.now)
            if late := inside.take():
                failures.append(f"{sum(map(len, late))} bytes that nobody asked for")
            every = list(_requests(chance))
            run.progress(min(asked, run.runs))
    figures = {"requests": len(every), "highest ratio": round(most, 3)}
    if run.fault is None:
        with attacked(run, _FAULTS) as target, spoofer(target.address) as attacker:
            sources = (f"127.8.{n >> 8}.{n & 255}" for n in range(1, len(every) + 1))
            datagrams = zip([datagram for _, datagram in every], sources, strict=True)
            tally = flood(target, attacker, datagrams)
        figures["ratio of all, running gateway"] = round(tally.bytes_answered / tally.bytes_sent, 3)
        if tally.bytes_answered > tally.bytes_sent or tally.unaccounted():
            failures.append(f"{tally.bytes_answered} bytes answered to {tally.bytes_sent}")
        if not tally.answered:
            failures.append("the running gateway has answered nothing at all")
    return Found(failures, figures)


# -- faults


def _padded() -> AbstractContextManager[object]:
    challenge = Cookies.challenge

    def careless(self: Cookies, hello: ClientHello, address: bytes, now: float) -> bytes:
        return challenge(self, hello, address, now) + bytes(8)

    return patch.object(Cookies, "challenge", careless)


def _words() -> AbstractContextManager[object]:
    return patch.object(server, "_PROTOCOL_VERSION", b"\2\x46" + b"DTLS 1.2 is what is spoken " * 3)


_FAULTS: Faults = {
    "padded": ("the challenge is padded by 8 bytes", _padded),
    "wordy-alert": ("the alert about the version carries an explanation", _words),
}

register(
    Experiment(
        id="S-17",
        name="reflection",
        target="bytes out / in at most 1.0 for each request before authentication; no resource "
        "without an association",
        unit="requests",
        short=600,
        long=60_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=1,
    )
)
