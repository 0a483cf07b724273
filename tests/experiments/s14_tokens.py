"""Nodes with equal tokens and Message IDs at once: each hears what it asked, and only that."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from gateway.coap import message as wire
from gateway.coap.exchanges import Exchanges
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Type, dotted
from gateway.ingress import aiocoap_lane
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import GOOD, JSON, WITHIN_S

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults
    from tests.integration.peer import Peer

_NODES = 3
_FOUND_OUT_S = 0.5
"""With a fault an answer may be missing for good."""
_PATH, _FORMAT, _ACCEPT = 11, 12, 17


class _Request(NamedTuple):
    code: int
    options: tuple[tuple[int, bytes], ...]
    payload: bytes
    answer: str
    """Code and, of what was read, the Content-Format: no two requests have the same."""


_REQUESTS = (
    _Request(Code.POST, ((_PATH, b"v"), (_FORMAT, b"\x70")), GOOD, "2.04"),
    _Request(Code.POST, ((_PATH, b"v"), (_FORMAT, bytes((JSON,)))), b"{", "4.00"),
    _Request(Code.POST, ((_PATH, b"v"), (_FORMAT, b"\x32")), b"[]", "4.15"),
    _Request(Code.POST, ((_PATH, b"nothing"),), b"x", "4.04"),
    _Request(Code.GET, ((_PATH, b"time"),), b"", "2.05 60"),
    _Request(Code.GET, ((_PATH, b"time"), (_ACCEPT, b"")), b"", "2.05 0"),
    _Request(Code.GET, ((_PATH, b"v"),), b"", "4.05"),
)
"""Of both lanes."""


def _said(answer: Message) -> str:
    code = dotted(answer.code)
    return f"{code} {answer.uint(_FORMAT)}" if answer.code == Code.CONTENT else code


def _forged(chance: random.Random, token: bytes, mid: int) -> bytes:
    """An answer that nobody asked of this node, to what another has just asked."""
    kind = chance.choice((Type.ACK, Type.NON))
    return wire.encode(Message(kind, Code.CONTENT, mid, token, (), b"forged"))


def _ask_all(
    chance: random.Random,
    peers: list[Peer],
    requests: list[_Request],
    token: bytes,
    mid: int,
    patience_s: float,
) -> list[str]:
    """All at once, with one token and one Message ID; forged answers between."""
    for peer, request in zip(peers, requests, strict=True):
        peer.say(
            wire.encode(
                Message(Type.CON, request.code, mid, token, request.options, request.payload)
            )
        )
    intruder = chance.choice(peers)
    intruder.say(_forged(chance, token, mid))
    failures = []
    for peer, request in zip(peers, requests, strict=True):
        got = peer.answer(mid, patience_s)
        if (got.mid, got.token, _said(got)) != (mid, token, request.answer):
            failures.append(f"{peer.device} asked for {request.answer} and got {got}")
    return failures


def _run(run: Run) -> Found:
    chance = random.Random(run.seed)
    failures: list[str] = []
    good = 0
    patience_s = WITHIN_S if run.fault is None else _FOUND_OUT_S
    with attacked(run, _FAULTS) as target:
        peers = [target.peer() for _ in range(_NODES)]
        before = target.counts()
        for done in range(run.runs):
            # A third of the time all ask the same, to be told apart by who they are alone.
            same = chance.choice(_REQUESTS)
            mixed = [chance.choice(_REQUESTS) for _ in peers]
            requests = mixed if done % 3 else [same] * len(peers)
            good += sum(one is _REQUESTS[0] for one in requests)
            token = chance.choice((b"", b"\0", chance.randbytes(8)))
            try:
                failures += _ask_all(chance, peers, requests, token, done & 0xFFFF, patience_s)
            except AssertionError as error:
                failures.append(f"{[one.answer for one in requests]}: {error}")
                break
            run.progress(done + 1)
        if failures:
            return Found(failures, {})
        after = target.counts()
    stored = after.get("admitted", 0) - before.get("admitted", 0)
    if stored != good:
        failures.append(f"{good} packs were sent and {stored} stored")
    return Found(failures, {"nodes": _NODES, "packs stored": stored})


# -- faults


def _one_table() -> AbstractContextManager[object]:
    begin, finish, forget = Exchanges.begin, Exchanges.finish, Exchanges.forget
    return patch.multiple(
        Exchanges,
        begin=lambda self, association, *rest: begin(self, 0, *rest),
        finish=lambda self, association, *rest: finish(self, 0, *rest),
        forget=lambda self, association, *rest: forget(self, 0, *rest),
    )


def _one_remote() -> AbstractContextManager[object]:
    return patch.multiple(
        aiocoap_lane._Remote,
        __eq__=lambda self, other: isinstance(other, aiocoap_lane._Remote),
        __hash__=lambda self: 0,
    )


_FAULTS: Faults = {
    "one-table": ("repetitions are told by their Message ID alone", _one_table),
    "one-remote": ("the full implementation takes all nodes for one", _one_remote),
}

register(
    Experiment(
        id="S-14",
        name="tokens",
        target=(
            "equal tokens and Message IDs of several nodes, reused over requests, with forged "
            "answers between: never crossed, on both lanes"
        ),
        unit="rounds",
        short=100,
        long=10_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=20,
    )
)
