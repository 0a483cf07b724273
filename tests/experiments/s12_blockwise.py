"""Bodies in blocks that are too long, too many, out of order, or never finished (RFC 7959)."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING
from unittest.mock import patch

from gateway.coap import blockwise
from gateway.coap.numbers import Code, Option, dotted
from gateway.coap.options import Block, uint
from gateway.ingress.guard import Config
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import JSON

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gateway.coap.message import Message
    from tests.experiments.rigs.hostile import Faults, Target
    from tests.integration.peer import Peer

_BODY = 8192
_AT_ONCE = Config().assemblies
_LAST_BLOCK = (1 << 20) - 1
_MORE_PEERS = 4
"""Beyond those that there is room for, in a short run."""
_SLACK_KIB = 16 << 10
"""Of memory: what Python keeps for itself when it has been busy."""


class _Attack:
    """Its failures, and how to send a block."""

    def __init__(self, target: Target, chance: random.Random) -> None:
        self.target = target
        self.chance = chance
        self.failures: list[str] = []
        self.sent = 0

    def block(
        self,
        peer: Peer,
        number: int,
        payload: bytes,
        *,
        more: bool = True,
        exponent: int = 0,
        tag: bytes | None = None,
        size: int | None = None,
    ) -> Message:
        self.sent += 1
        value = Block(number, more, exponent).encode()
        extra = [(int(Option.BLOCK1), value)]
        extra += [] if tag is None else [(int(Option.REQUEST_TAG), tag)]
        extra += [] if size is None else [(int(Option.SIZE1), uint(size))]
        return peer.request("v", payload, JSON, more=tuple(extra))

    def expect(self, name: str, answer: Message, code: str) -> None:
        if dotted(answer.code) != code:
            self.failures.append(f"{name}: {dotted(answer.code)}, not {code}")

    def whole(self, peer: Peer, size: int) -> tuple[Message, int]:
        """A pack of this size in blocks of 256 bytes; the last answer, and how many were taken."""
        start, end = b'[{"n":"note","vs":"', b'"}]'
        body = start + b"x" * (size - len(start) - len(end)) + end
        assert json.loads(body)
        for number in range(-(-size // 256)):
            part = body[number * 256 : number * 256 + 256]
            more = (number + 1) * 256 < size
            answer = self.block(peer, number, part, more=more, exponent=4)
            if dotted(answer.code) != "2.31":
                break
        return answer, number


def _sizes(attack: _Attack, peer: Peer) -> None:
    """8 KiB and no byte more, however it is said."""
    attack.expect("a body of 8 KiB", attack.whole(peer, _BODY)[0], "2.04")
    answer, taken = attack.whole(peer, _BODY + 1)
    attack.expect("a body of 8 KiB and a byte", answer, "4.13")
    if taken * 256 > _BODY:
        attack.failures.append(f"{taken * 256} bytes were taken")
    attack.expect("one announced", attack.block(peer, 0, bytes(16), size=_BODY + 1), "4.13")
    if answer.uint(Option.SIZE1) != _BODY:
        attack.failures.append("4.13 without Size1")


def _order(attack: _Attack, peer: Peer) -> None:
    """Gaps, overlaps, another size, another resource's body: each ends what was begun."""
    one, other = b"a" * 16, b"b" * 16
    for name, blocks in {
        "a gap": ((0, one, 0), (2, one, 0)),
        "no beginning": ((7, one, 0),),
        "other bytes in the same place": ((0, one, 0), (1, one, 0), (1, other, 0)),
        "a larger size, with a gap": ((0, one, 0), (1, one + one, 1)),
        "a smaller size, other bytes": ((0, one + other, 1), (1, one, 0)),
    }.items():
        *begun, last = blocks
        for number, payload, exponent in begun:
            attack.expect(name, attack.block(peer, number, payload, exponent=exponent), "2.31")
        number, payload, exponent = last
        answer = attack.block(peer, number, payload, exponent=exponent)
        attack.expect(name, answer, "4.08")
        attack.expect(f"after {name}", attack.block(peer, 1, one), "4.08")
    attack.expect("a block longer than its size", attack.block(peer, 0, bytes(17)), "4.00")
    attack.expect("a block shorter than its size", attack.block(peer, 0, bytes(15)), "4.00")


def _one_peer(attack: _Attack, peer: Peer, count: int) -> None:
    """First blocks of many bodies: the last one only is there. Then blocks from anywhere."""
    for number in range(count):
        tag = number.to_bytes(4, "big")
        attack.expect(
            "a first block", attack.block(peer, 0, bytes(1024), exponent=6, tag=tag), "2.31"
        )
    for number in {max(count - 2, 0), 0} - {count - 1}:
        answer = attack.block(peer, 1, bytes(1024), exponent=6, tag=number.to_bytes(4, "big"))
        attack.expect("a second assembly of one peer", answer, "4.08")
    for _ in range(count):
        number = attack.chance.choice((_LAST_BLOCK, attack.chance.randrange(1, _LAST_BLOCK)))
        answer = attack.block(peer, number, bytes(16))
        attack.expect(f"block {number}", answer, "4.13" if number >= _BODY >> 4 else "4.08")


def _many_peers(attack: _Attack, count: int) -> None:
    """First blocks from so many peers, none of whom goes on."""
    taken = 0
    for _ in range(count):
        answer = attack.block(attack.target.peer(), 0, bytes(1024), exponent=6)
        if answer.code == Code.CONTINUE:
            taken += 1
        else:
            attack.expect("a body too many", answer, "5.03")
            if answer.uint(Option.MAX_AGE) is None:
                attack.failures.append("5.03 without Max-Age")
    if taken != min(count, _AT_ONCE):
        attack.failures.append(f"{taken} bodies at once from {count} peers, not {_AT_ONCE}")
    attack.target.dismiss()
    attack.expect("when they have gone", attack.block(attack.target.peer(), 0, bytes(16)), "2.31")


def _run(run: Run) -> Found:
    with attacked(run, _FAULTS) as target:
        attack = _Attack(target, random.Random(run.seed))
        peer = target.peer()
        _sizes(attack, peer)
        _order(attack, peer)
        if run.fault is not None and attack.failures:
            return Found(attack.failures, {})
        before = target.memory_kib()
        _one_peer(attack, peer, run.runs // 2)
        target.dismiss()
        run.progress(run.runs // 2)
        _many_peers(attack, max(_AT_ONCE + _MORE_PEERS, min(1000, run.runs // 10)))
        grown = target.memory_kib() - before
        cpu = [_cpu_ms(attack, size) for size in (_BODY // 4, _BODY)] if run.long else [0, 0]
        counts = target.counts()
    if grown > _AT_ONCE * _BODY // 1024 + _SLACK_KIB:
        attack.failures.append(f"memory grew by {grown} KiB")
    if cpu[1] > 6 * cpu[0]:
        attack.failures.append(f"four times the blocks take {cpu[1] / cpu[0]:.1f} times the CPU")
    if counts.get("bug", 0) or counts.get("other.bugs", 0):
        attack.failures.append(f"bugs were counted: {counts}")
    run.progress(run.runs)
    figures: dict[str, object] = {"blocks": attack.sent, "memory KiB": grown}
    return Found(attack.failures, figures)


def _cpu_ms(attack: _Attack, size: int) -> float:
    """Of the gateway, for a hundred bodies of this size in blocks of 16 bytes, not finished."""
    process, peer = attack.target.process(), attack.target.peer()
    assert process is not None
    began = sum(process.cpu_times()[:2])
    for _ in range(100):
        for number in range(size // 16):
            attack.block(peer, number, bytes(16))
    return 1000 * (sum(process.cpu_times()[:2]) - began)


# -- faults


def _gaps_filled() -> AbstractContextManager[object]:
    append = blockwise.Assemblies._append

    def forgiving(
        self: blockwise.Assemblies,
        association: int,
        assembly: blockwise._Assembly,
        block: Block,
        payload: bytes,
    ) -> None:
        assembly.body += bytes(max(0, block.start - len(assembly.body)))
        append(self, association, assembly, block, payload)

    return patch.object(blockwise.Assemblies, "_append", forgiving)


_FAULTS: Faults = {
    "no-size": ("bodies of any size", lambda: patch.object(blockwise, "MAX_BODY", 1 << 30)),
    "no-cap": (
        "any number of bodies at once",
        lambda: patch.object(blockwise.Assemblies, "__len__", lambda self: 0),
    ),
    "gaps": ("a gap is filled with zeros", _gaps_filled),
}

register(
    Experiment(
        id="S-12",
        name="blockwise",
        target=(
            "a body has at most 8 KiB (4.13); one assembly a peer, 256 in all (5.03); a gap is "
            "4.08; memory within the caps; time linear in the blocks"
        ),
        unit="blocks",
        short=200,
        long=20_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=4,
    )
)
