"""What every cloud database must do. Runs over the registry, so a new one is covered unasked."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

import cloud.stores
from cloud.store import Put, Receipt, Sight, Store, stores
from gateway.cose.envelope import Envelope
from gateway.cose.record import Header
from gateway.lane import Lane
from gateway.registry import load_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Opened = Callable[[], AbstractAsyncContextManager[Store]]

load_all(cloud.stores)

LOCATIONS = {"sqlite": "cloud.db"}
"""Where a fresh store of each kind is made; a kind that is missing here fails."""

ALICE, BOB = b"a" * 32, b"b" * 32
BOTH = frozenset(Lane)
PATIENT, OTHER_PATIENT = b"p" * 16, b"q" * 16
_numbers = count(1)


def envelope(
    *readers: bytes, lane: Lane = Lane.ROUTINE, patient: bytes = PATIENT, gateway: str = "gw"
) -> Envelope:
    epoch = next(_numbers).to_bytes(16, "big")
    return Envelope(epoch, gateway, patient, lane, 1000, readers, b"message of " + epoch)


def record(of: Envelope, sealed: bytes = b"sealed") -> tuple[Header, bytes]:
    record_id = next(_numbers).to_bytes(16, "big")
    return Header(record_id, of.patient, of.lane, 1234, of.epoch), sealed


@pytest.fixture(params=[name for name, _ in stores.items()])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same store each time."""

    @asynccontextmanager
    async def open_it() -> AsyncIterator[Store]:
        failures: list[Exception] = []
        store = await stores.get(request.param)(
            LOCATIONS[request.param], folder=tmp_path, on_failure=failures.append
        )
        try:
            yield store
        finally:
            await store.close()
        assert failures == []

    return open_it


async def test_a_stored_record_is_seen_by_the_readers_of_its_epoch_only(opened: Opened) -> None:
    """Rule 5: the envelope decides."""
    async with opened() as store:
        epoch = envelope(ALICE)
        assert await store.put_epoch(epoch) is Put.NEW
        item = record(epoch)
        assert await store.add_records("gw", [item]) == Receipt(stored=(item[0].id,))
        page = await store.page(Sight(ALICE, BOTH), after=0, limit=10)
        assert [(found.gateway, found.header, found.record) for found in page.records] == [
            ("gw", *item)
        ]
        assert page.next is None
        assert (await store.page(Sight(BOB, BOTH), after=0, limit=10)).records == ()


async def test_a_reader_sees_only_the_lanes_of_the_role(opened: Opened) -> None:
    """Rule 5: and so do the caller's lanes."""
    async with opened() as store:
        epochs = {lane: envelope(ALICE, lane=lane) for lane in Lane}
        for epoch in epochs.values():
            await store.put_epoch(epoch)
            await store.add_records("gw", [record(epoch)])
        for lanes in (frozenset[Lane](), frozenset({Lane.ROUTINE}), frozenset(Lane)):
            page = await store.page(Sight(ALICE, lanes), after=0, limit=10)
            assert {found.header.lane for found in page.records} == lanes
            for lane, epoch in epochs.items():
                found = await store.epoch(epoch.epoch, Sight(ALICE, lanes))
                assert found == (epoch.message if lane in lanes else None)


async def test_an_envelope_is_given_to_its_readers_only(opened: Opened) -> None:
    """Another reader cannot tell it from one that does not exist."""
    async with opened() as store:
        epoch = envelope(ALICE)
        await store.put_epoch(epoch)
        assert await store.epoch(epoch.epoch, Sight(ALICE, BOTH)) == epoch.message
        assert await store.epoch(epoch.epoch, Sight(BOB, BOTH)) is None
        assert await store.epoch(b"x" * 16, Sight(ALICE, BOTH)) is None


async def test_writing_the_same_twice_changes_nothing(opened: Opened) -> None:
    """Rule 2."""
    async with opened() as store:
        epoch = envelope(ALICE)
        assert await store.put_epoch(epoch) is Put.NEW
        assert await store.put_epoch(epoch) is Put.KNOWN
        assert await store.put_epoch(epoch._replace(message=b"other")) is Put.CONFLICT
        assert await store.epoch(epoch.epoch, Sight(ALICE, BOTH)) == epoch.message
        first, second = record(epoch), record(epoch)
        await store.add_records("gw", [first])
        again = await store.add_records("gw", [first, second, second])
        assert again == Receipt(stored=(second[0].id,), known=(first[0].id, second[0].id))
        page = await store.page(Sight(ALICE, BOTH), after=0, limit=10)
        assert len(page.records) == 2


async def test_another_record_under_a_used_id_is_refused(opened: Opened) -> None:
    """Rule 2: bytes, header or gateway differ, and the first one stays."""
    async with opened() as store:
        epoch, others = envelope(ALICE), envelope(ALICE, gateway="other")
        await store.put_epoch(epoch)
        await store.put_epoch(others)
        header, sealed = record(epoch)
        await store.add_records("gw", [(header, sealed)])
        for gateway, item in (
            ("gw", (header, b"other bytes")),
            ("gw", (header._replace(received_ms=1), sealed)),
            ("other", (header._replace(epoch=others.epoch), sealed)),
        ):
            receipt = await store.add_records(gateway, [item])
            assert [found for found, _ in receipt.refused] == [header.id]
            assert not receipt.stored
        page = await store.page(Sight(ALICE, BOTH), after=0, limit=10)
        assert [(found.header, found.record) for found in page.records] == [(header, sealed)]


async def test_nothing_is_stored_while_an_epoch_is_missing(opened: Opened) -> None:
    """All or nothing: the gateway sends the envelope and repeats the batch."""
    async with opened() as store:
        there, missing = envelope(ALICE), envelope(ALICE)
        await store.put_epoch(there)
        items = [record(there), record(missing)]
        assert await store.add_records("gw", items) == Receipt(missing_epochs=(missing.epoch,))
        assert await store.last_cursor() == 0


@pytest.mark.parametrize("change", ["gateway", "patient", "lane"])
async def test_a_record_must_agree_with_its_epoch(opened: Opened, change: str) -> None:
    """Or it would be shown to the readers of another patient, lane or gateway."""
    async with opened() as store:
        epoch = envelope(ALICE)
        await store.put_epoch(epoch)
        header, sealed = record(epoch)
        gateway = "other" if change == "gateway" else "gw"
        if change == "patient":
            header = header._replace(patient=OTHER_PATIENT)
        if change == "lane":
            header = header._replace(lane=Lane.EMERGENCY)
        receipt = await store.add_records(gateway, [(header, sealed)])
        assert [found for found, _ in receipt.refused] == [header.id]
        assert await store.last_cursor() == 0


async def test_pages_lead_through_everything_in_order(opened: Opened) -> None:
    """Rule 3, for every page size, with others' records in between."""
    async with opened() as store:
        mine, others = envelope(ALICE), envelope(BOB)
        await store.put_epoch(mine)
        await store.put_epoch(others)
        items = [record(mine) for _ in range(7)]
        for item in items:
            await store.add_records("gw", [item, record(others)])
        for limit in (1, 2, 3, 7, 8):
            seen: list[bytes] = []
            after: int | None = 0
            while after is not None:
                page = await store.page(Sight(ALICE, BOTH), after=after, limit=limit)
                assert len(page.records) <= limit
                seen += [found.header.id for found in page.records]
                assert page.next is None or page.next > after
                after = page.next
            assert seen == [header.id for header, _ in items]


async def test_pages_of_one_patient(opened: Opened) -> None:
    """The pseudonym narrows what is visible."""
    async with opened() as store:
        for patient in (PATIENT, OTHER_PATIENT):
            for lane in Lane:
                epoch = envelope(ALICE, patient=patient, lane=lane)
                await store.put_epoch(epoch)
                await store.add_records("gw", [record(epoch)])
        for lanes in (BOTH, frozenset({Lane.ROUTINE}), frozenset({Lane.EMERGENCY})):
            page = await store.page(Sight(ALICE, lanes), after=0, limit=9, patient=OTHER_PATIENT)
            assert {found.header.patient for found in page.records} == {OTHER_PATIENT}
            assert {found.header.lane for found in page.records} == lanes


async def test_a_page_is_bounded_in_bytes(opened: Opened) -> None:
    """Rule 4: large records make short pages, and none is left out."""
    async with opened() as store:
        epoch = envelope(ALICE)
        await store.put_epoch(epoch)
        items = [record(epoch, bytes(1 << 20)) for _ in range(10)]
        await store.add_records("gw", items)
        page = await store.page(Sight(ALICE, BOTH), after=0, limit=1000)
        assert len(page.records) == 8
        assert page.next is not None
        rest = await store.page(Sight(ALICE, BOTH), after=page.next, limit=1000)
        assert len(rest.records) == 2
        assert rest.next is None


async def test_what_was_answered_is_there_after_opening_again(opened: Opened) -> None:
    """Records, envelopes, acknowledgements; and cursors go on, they do not start again."""
    epoch = envelope(ALICE, lane=Lane.EMERGENCY)
    item = record(epoch)
    async with opened() as store:
        await store.put_epoch(epoch)
        await store.add_records("gw", [item])
        given = await store.acknowledge(
            item[0].id, Sight(ALICE, BOTH), name="anna", role="doctor", at_ms=5
        )
        last = await store.last_cursor()
    async with opened() as store:
        assert await store.add_records("gw", [item]) == Receipt(known=(item[0].id,))
        assert await store.acknowledgements("gw", after=0, limit=9) == (given,)
        assert await store.last_cursor() == last
        await store.add_records("gw", [record(epoch)])
        assert await store.last_cursor() > last


async def test_only_a_visible_emergency_can_be_acknowledged_and_the_first_stays(
    opened: Opened,
) -> None:
    """An alarm belongs to one gateway, which alone is told."""
    async with opened() as store:
        emergency, routine = envelope(ALICE, lane=Lane.EMERGENCY), envelope(ALICE)
        await store.put_epoch(emergency)
        await store.put_epoch(routine)
        alarm, vitals = record(emergency), record(routine)
        await store.add_records("gw", [alarm, vitals])
        alice = Sight(ALICE, BOTH)
        for record_id, sight in (
            (vitals[0].id, alice),
            (b"x" * 16, alice),
            (alarm[0].id, Sight(BOB, BOTH)),
            (alarm[0].id, Sight(ALICE, frozenset({Lane.ROUTINE}))),
        ):
            assert await store.acknowledge(record_id, sight, name="n", role="r", at_ms=1) is None
        first = await store.acknowledge(alarm[0].id, alice, name="anna", role="doctor", at_ms=7)
        assert first is not None
        assert first[1:] == (alarm[0].id, "anna", "doctor", 7)
        again = await store.acknowledge(alarm[0].id, alice, name="bert", role="doctor", at_ms=8)
        assert again == first
        assert await store.acknowledgements("gw", after=0, limit=9) == (first,)
        assert await store.acknowledgements("gw", after=first.cursor, limit=9) == ()
        assert await store.acknowledgements("other", after=0, limit=9) == ()


async def test_many_writers_at_once_each_get_their_own_answer(opened: Opened) -> None:
    """Group commit must not mix up the callers."""
    async with opened() as store:
        epoch = envelope(ALICE)
        await store.put_epoch(epoch)
        items = [record(epoch) for _ in range(100)]
        receipts = await asyncio.gather(*(store.add_records("gw", [item]) for item in items))
        assert [receipt.stored for receipt in receipts] == [(header.id,) for header, _ in items]
        page = await store.page(Sight(ALICE, BOTH), after=0, limit=1000)
        assert len(page.records) == 100
