"""The outbox against a list: submit, lease, settle, crash, in any order."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.clock import SystemClock
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.row import ROW_OVERHEAD
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from tests.experiments.rigs.disk import MEMORY

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    from gateway.outbox.clerk import Clerk

    T = TypeVar("T")

BIG = 1 << 30
lanes = st.sampled_from(Lane)


def _folder() -> tempfile.TemporaryDirectory[str]:
    """In memory where that can be: the order of things is looked at, and no power is cut."""
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


class OutboxMachine(RuleBasedStateMachine):
    """``model``: every entry that was acknowledged and not settled, in order of arrival.

    A crash leaves the files as they are, without a checkpoint or a goodbye: the writer's thread,
    which would move rows from one to the other, copies them, and a new writer opens the copy.
    """

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = _folder()
        self.clock = SystemClock()
        self.n = 0
        self.model: dict[Lane, list[Entry]] = {lane: [] for lane in Lane}
        self.out: dict[Lane, dict[int, Entry]] = {lane: {} for lane in Lane}
        self.dead: list[Entry] = []
        self.keys: list[bytes] = []
        self.acknowledged: list[object] = []
        self.start()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await awaitable

        return self.runner.run(wrapped())

    def start(self) -> None:
        path = Path(self.folder.name) / "outbox.db"
        self.writer = Writer(lambda: Store(path), Config(), self.clock)
        self.run(
            self.writer.start(
                on_committed=self.acknowledged.extend,
                on_refused=lambda *_: None,
                on_failure=lambda error: None,
            )
        )

    @rule(lane=lanes, count=st.integers(1, 12), size=st.integers(0, 300), keyed=st.booleans())
    def submit(self, lane: Lane, count: int, size: int, keyed: bool) -> None:
        entries = []
        for _ in range(count):
            self.n += 1
            name = self.n.to_bytes(16, "big")
            key = name[::-1] if keyed else None
            entries.append(Entry(name, lane, b"p" * 16, self.n, b"e" * 16, b"s" * size, key))
        self.writer.submit(entries, [], self.n)
        self.run(self.writer.flush())
        assert self.acknowledged[-1] == self.n
        self.model[lane] += entries
        self.keys += [entry.key for entry in entries if entry.key]

    @rule(lane=lanes, limit=st.integers(1, 20), size=st.integers(0, 2000))
    def lease(self, lane: Lane, limit: int, size: int) -> None:
        leased = self.run(self.writer.lease(lane, limit, size, now=0.0))
        held = set(self.out[lane].values())
        waiting = [entry for entry in self.model[lane] if entry not in held]
        got = [item.entry for item in leased]
        assert got == waiting[: len(got)], "the oldest, in order"
        assert len(got) <= limit
        assert bool(got) == bool(waiting)
        assert len(got) <= 1 or sum(len(entry.sealed) for entry in got) <= size
        self.out[lane] |= {item.number: item.entry for item in leased}

    @rule(lane=lanes, choice=st.randoms(use_true_random=False))
    def settle(self, lane: Lane, choice: object) -> None:
        fates: dict[str, list[int]] = {"done": [], "retry": [], "dead": [], "keep": []}
        for number in self.out[lane]:
            fates[choice.choice(list(fates))].append(number)  # type: ignore[attr-defined]
        self.writer.settle(
            lane,
            done=fates["done"],
            retry=[(number, 0.0) for number in fates["retry"]],
            dead=[(number, "no") for number in fates["dead"]],
        )
        self.run(self.writer.flush())
        for number in fates["done"] + fates["dead"]:
            self.model[lane].remove(self.out[lane][number])
        self.dead += [self.out[lane][number] for number in fates["dead"]]
        for fate in ("done", "retry", "dead"):
            for number in fates[fate]:
                del self.out[lane][number]

    @rule()
    def close_and_reopen(self) -> None:
        self.run(self.writer.close())
        self.reopen()

    @rule()
    def crash_and_reopen(self) -> None:
        image = _folder()

        def copy(clerk: Clerk) -> None:
            for file in Path(self.folder.name).iterdir():
                shutil.copy(file, image.name)

        self.run(self.writer._ask(Lane.ROUTINE, copy))
        self.run(self.writer.close())
        self.folder.cleanup()
        self.folder = image
        self.reopen()

    def reopen(self) -> None:
        self.out = {lane: {} for lane in Lane}
        self.start()
        assert self.run(self.writer.recent_keys()) is not None

    @rule()
    def retry_all_dead(self) -> None:
        letters = self.run(self.writer.dead_letters(0, 10_000))
        assert self.run(self.writer.retry_dead([d.number for d in letters])) == len(self.dead)
        for lane in Lane:
            back = [entry for entry in self.dead if entry.lane is lane]
            self.model[lane] = sorted(self.model[lane] + back, key=lambda entry: entry.id)
        self.dead = []

    @invariant()
    def figures_agree(self) -> None:
        status = self.writer.status()
        for lane in Lane:
            assert status.lanes[lane].rows == len(self.model[lane])
            oldest = self.model[lane][0].received_ms if self.model[lane] else None
            assert status.lanes[lane].oldest_ms == oldest
        everything = [*self.dead, *self.model[Lane.EMERGENCY], *self.model[Lane.ROUTINE]]
        assert status.size == sum(len(entry.sealed) + ROW_OVERHEAD for entry in everything)
        assert (status.dead, status.lost, status.damaged) == (len(self.dead), 0, 0)

    def teardown(self) -> None:
        letters = self.run(self.writer.dead_letters(0, 10_000))
        assert sorted(d.entry.id for d in letters if d.entry) == sorted(e.id for e in self.dead)
        self.run(self.writer.close())
        self.runner.close()
        self.folder.cleanup()


OutboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestOutbox = OutboxMachine.TestCase
