"""What workers have left that are no more: opened, delivered, never lost."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from gateway import provision
from gateway.clock import SystemClock
from gateway.config import loading
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.outbox.offline import offline
from gateway.uplink import cloud_sink
from gateway.workers.leftovers import Leftovers

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config.loading import Loaded


def _ward(folder: Path, *, waiting: dict[str, int]) -> Loaded:
    """Whose cloud store is nowhere; so many records wait in each outbox."""
    provision.make_ward(
        folder, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
    )
    for name, count in waiting.items():
        with offline(folder / "state" / name) as store:
            store.begin()
            entries = [
                Entry(bytes([n]) * 16, Lane.ROUTINE, bytes(16), 7, bytes(16), b"sealed", None)
                for n in range(count)
            ]
            store.add(Lane.ROUTINE, entries)
            store.commit()
    return loading.load(folder / "gateway.toml", {})


def _made(loaded: Loaded, count: int, ended: list[str]) -> Leftovers:
    return Leftovers(
        loaded.configuration.gateway.state,
        count,
        SystemClock(),
        make_sink=partial(cloud_sink, loaded),
        random=bytes,
        ended=ended.append,
    )


async def test_what_cannot_be_delivered_now_stays(tmp_path: Path) -> None:
    waiting = {"outbox.db": 1, "outbox-1.db": 2, "outbox-2.db": 3, "outbox-5.db": 4}
    loaded = _ward(tmp_path / "ward", waiting=waiting)
    ended: list[str] = []
    leftovers = _made(loaded, 2, ended)
    await leftovers.start()
    status = leftovers.status()
    assert [outbox["lanes"][Lane.ROUTINE]["rows"] for outbox, _ in status] == [3, 4]
    # They have no room that anybody could use.
    assert [outbox["max_bytes"] for outbox, _ in status] == [0, 0]
    async with asyncio.timeout(10):
        while any(one[1][Lane.ROUTINE]["failures"] < 1 for one in leftovers.status()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await leftovers.stop(5.0)
    assert ended == []
    for name, count in waiting.items():
        with offline(loaded.configuration.gateway.state / name) as store:
            assert store.rows[Lane.ROUTINE] == count


async def test_an_empty_one_rests_at_once_and_keeps_its_figures(tmp_path: Path) -> None:
    loaded = _ward(tmp_path / "ward", waiting={"outbox-1.db": 2, "outbox-2.db": 0})
    path = loaded.configuration.gateway.state / "outbox-1.db"
    with offline(path) as store:
        store.begin()
        entries, _ = store.read(Lane.ROUTINE, 0, 10, 10, 1000)
        store.remove_delivered(Lane.ROUTINE, entries)
        store.commit()
    leftovers = _made(loaded, 1, [])
    await leftovers.start()
    async with asyncio.timeout(10):
        while True:
            try:
                with offline(path):
                    break
            except Exception:
                await asyncio.sleep(0.01)
    ((outbox, delivery), _) = leftovers.status()
    assert outbox["lanes"][Lane.ROUTINE]["delivered"] == 2
    assert delivery == {}
    await leftovers.stop(1.0)


async def test_without_any_there_is_nothing(tmp_path: Path) -> None:
    loaded = _ward(tmp_path / "ward", waiting={"outbox.db": 1, "outbox-1.db": 1})
    leftovers = _made(loaded, 2, [])
    await leftovers.start()
    assert leftovers.status() == []
    await leftovers.stop(1.0)
