"""The link: two ends of a real socket, bounds, and an end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.coap.fastlane import Kind
from gateway.endpoint import Endpoint
from gateway.errors import OutboxFull
from gateway.ingress.batch import Handed, Waiting
from gateway.intake import Offer, Repeated
from gateway.workers import link as link_module
from gateway.workers.link import Link
from gateway.workers.wire import Asked, Result, Told

ME = Endpoint(1, "bracelet-1")


class End:
    """One worker's end, and what it hears."""

    def __init__(self, other: int) -> None:
        self.asked: asyncio.Queue[Asked] = asyncio.Queue()
        self.told: asyncio.Queue[tuple[Waiting, Result]] = asyncio.Queue()
        self.broken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.link = Link(
            other,
            asked=lambda link, asked: self.asked.put_nowait(asked),
            told=lambda results: [self.told.put_nowait(one) for one in results] and None,
            broken=self.broken.set_result,
        )

    def ask(self, *payloads: bytes) -> list[Waiting]:
        """Hand over; who waits for each."""
        waiting = [Waiting(payload[:8], None, None, None) for payload in payloads]
        handed = []
        for payload, one in zip(payloads, waiting, strict=True):
            place = Handed()
            place.waiting = one
            handed.append((Offer(ME, Kind.VITALS, 112, payload), place))
        self.link.ask(0.5, 1.5, handed)
        return waiting


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    near, far = End(1), End(0)
    for end, one in zip((near, far), socket.socketpair(), strict=True):
        await end.link.open(one)
    yield near, far
    near.link.close()
    await asyncio.gather(near.broken, far.broken)


async def test_an_answer_finds_who_waits(ends: tuple[End, End]) -> None:
    near, far = ends
    first, second = near.ask(b"1", b"2")
    asked = await far.asked.get()
    assert [offer.payload for offer in asked.offers] == [b"1", b"2"]
    assert (near.link.owed, near.link.idle.is_set()) == (2, False)
    far.link.tell([Told(asked.number, 1, Repeated(stored=True))])
    assert await near.told.get() == (second, Repeated(stored=True))
    assert not near.link.idle.is_set()
    far.link.tell([Told(asked.number, 0, Repeated(stored=False))])
    assert await near.told.get() == (first, Repeated(stored=False))
    assert (near.link.owed, near.link.idle.is_set()) == (0, True)


async def test_a_large_burst_goes_in_parts(ends: tuple[End, End]) -> None:
    """A frame has a longest length; what is asked and answered is the same."""
    near, far = ends
    payloads = [bytes([number]) * 16_384 for number in range(255)]
    near.ask(*payloads)
    heard: list[bytes] = []
    while len(heard) < len(payloads):
        asked = await far.asked.get()
        heard += [offer.payload for offer in asked.offers]
        far.link.tell(
            [Told(asked.number, at, Repeated(stored=True)) for at in range(len(asked.offers))]
        )
    assert heard == payloads
    waited = [(await near.told.get())[0].key for _ in payloads]
    assert waited == [payload[:8] for payload in payloads]


async def test_what_a_home_does_not_answer_is_bounded(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OWED_MOST", 2)
    near, _ = ends
    near.ask(b"1")
    assert near.link.refusal() is None
    near.ask(b"2")
    refusal = near.link.refusal()
    assert isinstance(refusal, OutboxFull)
    assert "behind" in str(refusal)


async def test_a_home_that_does_not_read_costs_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "UNSENT_MOST", 1 << 20)
    near = End(1)
    ours, theirs = socket.socketpair()
    await near.link.open(ours)
    asked = 0
    while near.link.refusal() is None:
        near.ask(bytes(16_384))
        asked += 1
        assert asked < 200
    theirs.close()
    await near.broken


async def test_what_a_broken_link_owes_is_refused(ends: tuple[End, End]) -> None:
    near, far = ends
    waiting = near.ask(b"1", b"2", b"3")
    asked = await far.asked.get()
    far.link.tell([Told(asked.number, 1, Repeated(stored=True))])
    far.link.close()
    assert await near.broken == 1
    heard = [await near.told.get() for _ in range(3)]
    assert heard[0] == (waiting[1], Repeated(stored=True))
    assert [one for one, _ in heard[1:]] == [waiting[0], waiting[2]]
    assert all(isinstance(result, OutboxFull) for _, result in heard[1:])
    assert near.link.idle.is_set()
    refusal = near.link.refusal()
    assert refusal is not None
    assert "away" in str(refusal)
    near.link.tell([Told(0, 0, Repeated(stored=True))])  # to nobody


async def test_an_end_that_cannot_be_understood_is_hung_up_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    near = End(1)
    ours, theirs = socket.socketpair()
    await near.link.open(ours)
    (waiting,) = near.ask(b"1")
    theirs.send(b"\xff" * 100)
    assert await near.broken == 1
    assert (await near.told.get())[0] == waiting
    assert "cannot be understood" in caplog.text
    theirs.close()
