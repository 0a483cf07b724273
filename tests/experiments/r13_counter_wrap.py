"""R-13: counters near the end of 16, 31, 48, 53 and 63 bits.

The outbox's numbers, in the real writer on a real file: over the edge, through settlements, dead
letters, a kill, and a salvage; at the end of 63 bits what has no number is refused and what waits
is delivered. A device's ``seq``, the Message ID of RFC 7252 and the sequence number of RFC 6347, in
a whole gateway: none is taken for an old one, and where the last cannot wrap the association ends.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from gateway.clock import SystemClock
from gateway.coap.exchanges import Exchanges
from gateway.dtls.records import Protector
from gateway.errors import OutboxError
from gateway.lane import Lane
from gateway.node.link import LinkError
from gateway.outbox import store
from gateway.outbox.clerk import Clerk
from gateway.outbox.config import Config
from gateway.outbox.connection import damage_note
from gateway.outbox.entry import Entry
from gateway.outbox.row import LAST_NUMBER, pack_rows
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.disk import MEMORY
from tests.experiments.rigs.inside import Inside, good, post
from tests.experiments.rigs.line import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

_BIG = 1 << 40
_CONFIG = Config(max_bytes=1 << 20, reserve_bytes=1 << 18)
_EDGES = (2**16, 2**31, 2**53, 2**63)
_SEQ_EDGES = (2**16, 2**31, 2**32, 10**15 - 3)
"""A number of SenML may be 10**15 at most."""

_ENTRIES = 40
"""Beyond each edge but the last."""


class _Outbox:
    """One that has given out all numbers below ``first``."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        Store(path).close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(
                "UPDATE ledger SET last_number = ?, removed = ?", (first - 1, first - 1)
            )
        path.with_suffix(".mark").unlink()
        self.tokens: list[object] = []
        self.refused: list[object] = []
        self.failures: list[BaseException] = []

    async def __aenter__(self) -> Writer:
        self.writer = Writer(partial(open_store, self.path), _CONFIG, SystemClock())
        await self.writer.start(
            on_committed=self.tokens.extend,
            on_refused=lambda tokens, error: self.refused.extend(tokens),
            on_failure=self.failures.append,
        )
        return self.writer

    async def __aexit__(self, *_: object) -> None:
        await self.writer.close()


def _entries(names: Iterable[int], lane: Lane) -> list[Entry]:
    made = []
    for n in names:
        name = n.to_bytes(16, "big")
        made.append(Entry(name, lane, b"p" * 16, n, b"e" * 16, b"sealed" * 10, name))
    return made


async def _numbers(path: Path, first: int) -> list[str]:
    """Over an edge; what is wrong."""
    outbox = _Outbox(path, first)
    async with outbox as writer:
        for n in range(0, _ENTRIES, 4):
            writer.submit(_entries(range(n, n + 4), list(Lane)[n // 4 % 2]), [], n)
            await writer.flush()
        leased = {lane: await writer.lease(lane, 4, _BIG, now=0.0) for lane in Lane}
        for lane, some in leased.items():
            one, two, three, four = (item.number for item in some)
            writer.settle(lane, done=[one, four], retry=[(two, 0.0)], dead=[(three, "no")])
        dead = await writer.dead_letters(0, 10)
        await writer.retry_dead([letter.number for letter in dead])
        await writer.flush()
        killed = path.with_name(f"killed-{path.name}")
        for suffix in (".db", ".db-wal", ".mark"):
            shutil.copy(path.with_name(path.stem + suffix), killed.with_name(killed.stem + suffix))
    wrong = [f"the writer has failed: {error!r}" for error in outbox.failures]
    delivered = {item.number for some in leased.values() for item in (some[0], some[3])}
    expected = [n for n in range(first, first + _ENTRIES) if n not in delivered]
    shutil.copy(path, salvaged := path.with_name(f"salvaged-{path.name}"))
    damage_note(salvaged).touch()
    for how, one in (("closed", path), ("killed", killed), ("salvaged", salvaged)):
        opened = open_store(one)
        if (found := _found(opened)) != expected or opened.lost:
            wrong.append(f"{how}: {len(found)} of {len(expected)} rows, {opened.lost} lost")
        opened.begin()
        opened.add(Lane.ROUTINE, _entries([_ENTRIES], Lane.ROUTINE))
        opened.commit()
        if opened.last_number != first + _ENTRIES:
            wrong.append(f"{how}: the next number is {opened.last_number - first} too far")
        opened.abandon()
    return wrong


def _found(opened: Store) -> list[int]:
    """Numbers of the intact rows, if each holds what belongs there."""
    rows = [row for lane in Lane for row in opened.read(lane, 0, LAST_NUMBER + 1, _BIG, _BIG)[0]]
    numbers = sorted(number for number, _ in rows)
    names = [entry.received_ms for _, entry in sorted(rows)]
    return numbers if names == sorted(names) else []


async def _last_numbers(path: Path, first: int) -> list[str]:
    """Up to the last one."""
    left = LAST_NUMBER - first + 1
    outbox = _Outbox(path, first)
    wrong = []
    async with outbox as writer:
        for n in range(0, left, 37):
            writer.submit(_entries(range(n, min(n + 37, left)), Lane.ROUTINE), [], n)
        for lane in Lane:
            await writer.flush()
            writer.submit(_entries([left], lane), [], "one too many")
        await writer.flush()
        if outbox.refused != ["one too many"] * 2 or "one too many" in outbox.tokens:
            wrong.append(f"what has no number: {len(outbox.refused)} of 2 were refused")
        if not outbox.failures:
            delivered = 0
            while leased := await writer.lease(Lane.ROUTINE, 100, _BIG, now=0.0):
                writer.settle(Lane.ROUTINE, done=[item.number for item in leased])
                delivered += len(leased)
            if delivered != left:
                wrong.append(f"{delivered} of the last {left} entries were handed out")
    wrong += [f"the writer has failed: {error!r}" for error in outbox.failures]
    opened = open_store(path)
    if _found(opened) or opened.lost or opened.last_number != LAST_NUMBER:
        wrong.append(f"{len(_found(opened))} rows are left, {opened.lost} lost")
    opened.abandon()
    return wrong


async def _message_ids() -> list[str]:
    """Round once within the lifetime of an exchange and once beyond it, other bytes each time."""
    wrong = []
    for per_s in (400.0, 100.0):
        exchanges, swallowed = Exchanges(), 0
        for n in range((1 << 16) + 100):
            mid, now = (n - 3) & 0xFFFF, n / per_s
            if type(exchanges.begin(1, mid, n, now)).__name__ == "New":
                exchanges.finish(1, mid, b"answer", now)
            else:
                swallowed += 1
        if swallowed:
            wrong.append(f"{swallowed} messages at {per_s:.0f}/s were taken for older ones")
    return wrong


async def _whole_gateway(folder: Path, within_s: float) -> list[str]:
    wrong: list[str] = []
    stored = 0
    unlimited = {"WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": "0"}
    async with Inside(folder, ["bracelet-1"], unlimited) as inside:
        link = await inside.link("bracelet-1")
        for edge in _SEQ_EDGES:
            link._mid = 0xFFFD
            for seq in (*range(edge - 3, edge + 3), 0):
                one = good(boot=edge % 1000, seq=seq)
                answered = [await post(link, "v", one) for _ in range(2)]
                wrong += [f"seq {seq} was not acknowledged"] if not all(answered) else []
                stored += 1
        for seq in (2**53, 2**63):
            if await post(link, "v", good(boot=1, seq=seq)):
                wrong.append(f"seq {seq}, which cannot be kept exactly, was acknowledged")
        for edge in (*_EDGES[:2], 2**48):
            [ours] = inside.gateway._server.of_device("bracelet-1")
            theirs = link._client.association  # type: ignore[union-attr]
            assert theirs is not None
            ours._protector._number, theirs._protector._number = edge - 5, edge - 6
            for n in range(4):
                if not await post(link, "v", good(boot=1, seq=edge + n)):
                    wrong.append(f"record number {edge - 5 + n} was not answered")
                stored += 1
        try:
            await asyncio.wait_for(post(link, "v", good(boot=2, seq=0)), within_s)
            wrong.append("an association goes on after its last number")
        except LinkError:
            stored += 1  # only its answer could not be sent
        except TimeoutError:
            return [*wrong, "after the last number there is neither an answer nor an end"]
        link = await inside.link("bracelet-1")
        if not await post(link, "v", good(boot=3, seq=0)):
            wrong.append("no new association")
        if not await until(lambda: len(inside.stub.stored) >= stored + 1):
            wrong.append(f"{len(inside.stub.stored)} of {stored + 1} packs arrived")
        elif len(inside.stub.stored) > stored + 1:
            wrong.append("packs were stored twice")
    return wrong


def _bits(bits: int) -> Callable[[Lane, int, Sequence[Entry]], list[int | bytes]]:
    def short(lane: Lane, first: int, entries: Sequence[Entry]) -> list[int | bytes]:
        return pack_rows(lane, first & ((1 << bits) - 1), entries)

    return short


def _float(lane: Lane, first: int, entries: Sequence[Entry]) -> list[int | bytes]:
    return pack_rows(lane, int(float(first)), entries)


def _wrapping(protect: Callable[..., bytes]) -> Callable[..., bytes]:
    def planted(self: Protector, content_type: int, plaintext: bytes) -> bytes:
        self._number %= (1 << 48) - 1
        return protect(self, content_type, plaintext)

    return planted


def _by_id_alone(begin: Callable[..., object]) -> Callable[..., object]:
    def planted(self: Exchanges, association: int, mid: int, digest: int, *rest: float) -> object:
        return begin(self, association, mid, 0, *rest)

    return planted


def _plant(fault: str | None, stack: ExitStack) -> None:
    if fault == "31-bits":
        stack.enter_context(patch.object(store, "pack_rows", _bits(31)))
    elif fault == "floating-point":
        stack.enter_context(patch.object(store, "pack_rows", _float))
    elif fault == "no-last-number":
        stack.enter_context(patch.object(Clerk, "_check_room", lambda *_: None))
    elif fault == "wrapping-records":
        stack.enter_context(patch.object(Protector, "protect", _wrapping(Protector.protect)))
    elif fault == "message-id-alone":
        stack.enter_context(patch.object(Exchanges, "begin", _by_id_alone(Exchanges.begin)))


def _run(run: Run) -> Found:
    failures: list[str] = []
    with ExitStack() as stack:
        _plant(run.fault, stack)
        memory = MEMORY if MEMORY.is_dir() else run.folder
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        within_s = 1.0 if run.fault else 20.0
        counters: dict[str, Callable[[], Coroutine[None, None, list[str]]]] = {
            f"number {edge:,}": partial(_numbers, folder / f"{edge}.db", edge - 3)
            for edge in (*_EDGES[:3], 2**63 - 997)
        }
        counters["the last number"] = partial(_last_numbers, folder / "last.db", 2**63 - 1000)
        counters["Message IDs"] = _message_ids
        counters["seq and records"] = partial(_whole_gateway, run.folder, within_s)
        for n, (name, wrong) in enumerate(counters.items()):
            try:
                failures += [f"{name}: {one}" for one in asyncio.run(wrong())]
            except (OutboxError, sqlite3.Error, ValueError) as error:
                failures.append(f"{name}: {error!r}")
            run.progress(n + 1)
            if run.fault and failures:
                break
    return Found(failures, {"up to": "the last number of 63 and of 48 bits"})


register(
    Experiment(
        id="R-13",
        name="counter-wrap",
        target="no gap, no duplicate, no stall; at the last number a refusal and an end",
        unit="counters",
        short=7,
        long=7,
        run=_run,
        faults={
            "31-bits": "the outbox keeps 31 bits of a number",
            "floating-point": "a number of the outbox goes through a floating-point one",
            "no-last-number": "nobody looks whether numbers are left",
            "message-id-alone": "a message is known by its ID, whatever its bytes",
            "wrapping-records": "record numbers begin again after the last",
        },
        fault_runs=7,
    )
)
