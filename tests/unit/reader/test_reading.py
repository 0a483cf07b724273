"""The order of reading: pages, envelopes, outages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.reader import reading
from gateway.reader.fetch import CloudRefused, CloudUnreachable
from gateway.reader.opening import Opened, Opening
from gateway.reader.pages import Item, Page
from gateway.reader.reading import CaughtUp, Interrupted, Unopened, read

if TYPE_CHECKING:
    from gateway.cose.record import Header
    from gateway.lane import Lane
    from tests.conftest import Reader, Ward


class Script:
    """A source that answers by the list: a page, or an error to raise."""

    def __init__(self, *answers: Page | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[int] = []
        self.envelopes: dict[bytes, bytes | Exception] = {}
        self.fetched: list[bytes] = []

    async def page(self, *, after: int, lane: Lane | None) -> Page:
        self.asked.append(after)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def epoch(self, epoch: bytes) -> bytes | None:
        self.fetched.append(epoch)
        answer = self.envelopes.get(epoch)
        if isinstance(answer, Exception):
            del self.envelopes[epoch]
            raise answer
        return answer


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, a thousand times shorter."""
    monkeypatch.setattr(reading, "POLL_S", reading.POLL_S / 1000)
    monkeypatch.setattr(reading, "MAX_PAUSE_S", reading.MAX_PAUSE_S / 1000)


@pytest.fixture
def doctor(ward: Ward) -> Reader:
    return ward.reader("anna", "doctor")


@pytest.fixture
def opening(ward: Ward, doctor: Reader) -> Opening:
    return Opening(ward.authority.certificate, doctor.seal_key)


def numbered(*records: tuple[Header, bytes], start: int = 1) -> tuple[Item, ...]:
    return tuple(Item(at, "gateway-1", *record) for at, record in enumerate(records, start))


async def test_pages_are_followed_to_the_end(ward: Ward, doctor: Reader, opening: Opening) -> None:
    """Also over an empty one; each envelope is fetched once."""
    epoch = ward.epoch([doctor])
    items = numbered(ward.record(epoch), ward.record(epoch), ward.record(epoch))
    source = Script(Page(items[:2], 2), Page((), 50), Page(items[2:], None))
    source.envelopes[epoch[1].epoch] = epoch[1].message
    events = [event async for event in read(source, opening)]
    assert [event.id for event in events if isinstance(event, Opened)] == [
        item.header.id for item in items
    ]
    assert isinstance(events[-1], CaughtUp)
    assert source.asked == [0, 2, 50]
    assert source.fetched == [epoch[1].epoch]


async def test_records_from_before_are_not_even_opened(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """Nor are their envelopes fetched."""
    epoch = ward.epoch([doctor])
    items = numbered(ward.record(epoch, received_ms=999))
    source = Script(Page(items, None))
    assert [event async for event in read(source, opening, since_ms=1000)] == [CaughtUp()]
    assert source.fetched == []


async def test_what_does_not_open_is_told_and_the_reading_goes_on(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """For others, tampered with, good."""
    mine, others = ward.epoch([doctor]), ward.epoch([ward.reader("bert", "doctor")])
    header, record = ward.record(mine)
    items = numbered(ward.record(others), (header, record + b"x"), ward.record(mine))
    source = Script(Page(items, None))
    source.envelopes = {epoch[1].epoch: epoch[1].message for epoch in (mine, others)}
    first, second, third, end = [event async for event in read(source, opening)]
    assert isinstance(first, Unopened)
    assert isinstance(second, Unopened)
    assert [first.tampered, second.tampered] == [False, True]
    assert isinstance(third, Opened)
    assert end == CaughtUp()


async def test_following_tells_of_an_outage_once_and_goes_on_where_it_was(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """Also when the outage comes between a record and its envelope."""
    first, second = ward.epoch([doctor]), ward.epoch([doctor])
    items = numbered(ward.record(first), ward.record(second))
    away = CloudUnreachable("away")
    source = Script(
        Page(items, None), away, away, away, Page(items[1:], None), away, CloudRefused("end")
    )
    source.envelopes = {first[1].epoch: first[1].message, second[1].epoch: away}
    events: list[object] = []

    async def follow() -> None:
        async for event in read(source, opening, follow=True):
            events.append(event)
            if isinstance(event, Interrupted):
                source.envelopes[second[1].epoch] = second[1].message

    with pytest.raises(CloudRefused):
        await follow()
    assert [type(event) for event in events] == [
        Opened,
        Interrupted,
        Opened,
        CaughtUp,
        Interrupted,
    ]
    assert source.asked == [0, 1, 1, 1, 1, 2, 2]


async def test_without_following_an_outage_is_an_error(opening: Opening) -> None:
    """Not everything was shown."""
    with pytest.raises(CloudUnreachable):
        _ = [event async for event in read(Script(CloudUnreachable("away")), opening)]
