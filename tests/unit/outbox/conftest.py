"""Entries, a clock that stands still, and a writer on a real file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import pytest

from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@dataclass
class FakeClock:
    now: float = 1000.0
    utc: float = 1_795_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.utc

    def synchronised(self) -> bool:
        return True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


_numbers = count(1)


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    def make(lane: Lane = Lane.ROUTINE, *, size: int = 50, keyed: bool = True) -> Entry:
        n = next(_numbers)
        name = n.to_bytes(16, "big")
        return Entry(
            id=name,
            lane=lane,
            patient=b"p" * 16,
            received_ms=1_795_000_000_000 + n,
            epoch=b"e" * 16,
            sealed=(name * (size // 16 + 1))[:size],
            key=b"k" + name[1:] if keyed else None,
        )

    return make


@dataclass
class Running:
    """A started writer, and what it said."""

    writer: Writer
    path: Path
    tokens: list[object] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)

    refused: list[object] = field(default_factory=list)

    def refuse(self, tokens: list[object], _: object) -> None:
        self.refused += tokens

    def committed(self, tokens: list[object]) -> None:
        self.tokens += tokens
        self.commits.append(len(tokens))


Start = "Callable[..., Awaitable[Running]]"


@pytest.fixture
async def start(
    tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Starts writers on ``outbox.db`` of the test's folder; those still running are closed."""
    started: list[Running] = []

    async def begin(
        config: Config | None = None, open_store: Callable[[Path], Store] = Store
    ) -> Running:
        path = tmp_path / "outbox.db"
        running = Running(Writer(lambda: open_store(path), config or Config(), clock), path)
        await running.writer.start(
            on_committed=running.committed,
            on_refused=running.refuse,
            on_failure=running.failures.append,
        )
        started.append(running)
        return running

    yield begin
    await asyncio.gather(*(running.writer.close() for running in started))
