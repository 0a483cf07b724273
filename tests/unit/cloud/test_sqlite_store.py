"""What is particular to the SQLite store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cloud.store import Sight, split_address
from cloud.stores import sqlite
from gateway.cose.envelope import Envelope
from gateway.cose.record import Header
from gateway.lane import Lane

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("lanes", [frozenset(Lane), frozenset({Lane.ROUTINE})])
async def test_a_page_looks_at_a_bounded_number_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: frozenset[Lane]
) -> None:
    """Others' records make short pages that lead on, not one long search."""
    monkeypatch.setattr(sqlite, "SCAN", 5)
    store = await sqlite.open_sqlite("c.db", folder=tmp_path, on_failure=lambda _: None)
    mine, others = (
        Envelope(name * 16, "gw", b"p" * 16, Lane.ROUTINE, 1, (name * 32,), b"m")
        for name in (b"a", b"b")
    )
    for envelope in (mine, others):
        await store.put_epoch(envelope)

    async def add(number: int, envelope: Envelope) -> bytes:
        record_id = number.to_bytes(16, "big")
        header = Header(record_id, envelope.patient, envelope.lane, 1, envelope.epoch)
        await store.add_records("gw", [(header, b"x")])
        return record_id

    wanted = []
    for number in range(23):
        if number in {0, 11, 22}:
            wanted.append(await add(number, mine))
        else:
            await add(number, others)
    for patient in (None, b"p" * 16):
        seen: list[bytes] = []
        pages = 0
        after: int | None = 0
        while after is not None:
            page = await store.page(
                Sight(b"a" * 32, lanes), after=after, limit=100, patient=patient
            )
            assert len(page.records) <= 1
            seen += [record.header.id for record in page.records]
            after = page.next
            pages += 1
        assert seen == wanted
        assert pages == 5
    await store.close()


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("cloud.db", ("sqlite", "cloud.db")),
        ("/var/lib/cloud.db", ("sqlite", "/var/lib/cloud.db")),
        ("sqlite:///var/cloud.db", ("sqlite", "/var/cloud.db")),
        ("postgresql://host/db", ("postgresql", "host/db")),
    ],
)
def test_the_address_names_the_kind_of_database(database: str, expected: tuple[str, str]) -> None:
    """A plain path is SQLite."""
    assert split_address(database) == expected
