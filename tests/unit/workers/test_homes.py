"""One worker's intake among others, and another worker at the end of its link."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.alarm_book import AlarmBook
from gateway.clock import SystemClock
from gateway.coap.fastlane import Kind
from gateway.endpoint import Endpoint
from gateway.errors import BadRequestError, ForbiddenError, OutboxFull
from gateway.ingress.batch import Handed, Waiting
from gateway.intake import Admitted, Offer, Repeated
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.connection import connect
from gateway.outbox.salvage import open_store
from gateway.outbox.writer import Writer
from gateway.workers.homes import Homes
from gateway.workers.lifeline import Pair
from gateway.workers.link import Link
from gateway.workers.place import Place, home
from gateway.workers.wire import Told

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from gateway.outbox.connection import Connection, Cursor
    from gateway.workers.wire import Asked, Result
    from tests.unit.conftest import Desk

_PACK = cbor2.dumps([{0: "hr", 1: "1/min", 2: 72}])


class Disk:
    """Has no room, when the test says so."""

    def __init__(self, path: pathlib.Path) -> None:
        self._connection = connect(path)
        self.close = self._connection.close
        self.full = False

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        if self.full and sql == "COMMIT":
            error = sqlite3.OperationalError("planted: the disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._connection.execute(sql, parameters)


class Bench:
    """Worker 0 of 2; the test is worker 1."""

    def __init__(self, desk: Desk, folder: pathlib.Path) -> None:
        self.desk = desk
        self.looked = 0
        self.now = 5.0
        self.book = AlarmBook(bytes(32), os.urandom, lambda kept, gone: None)
        self.mine = self._device(0)
        self.theirs = self._device(1)
        self.writer = Writer(
            lambda: open_store(folder / "outbox.db", connect=self._on_disk), Config(), SystemClock()
        )
        self.asked: asyncio.Queue[tuple[Link, Asked]] = asyncio.Queue()
        self.told: asyncio.Queue[tuple[Waiting, Result]] = asyncio.Queue()

    def _on_disk(self, path: pathlib.Path) -> Connection:
        self.disk = Disk(path)
        return self.disk

    def _device(self, worker: int) -> str:
        """One whose patient has this home."""
        for number in range(100):
            name = f"d{worker}-{number}"
            self.desk.device(name, f"{worker}-{number}")
            assignment = self.desk.ward.assignment(name)
            assert assignment is not None
            if home(assignment.pseudonym, 2) == worker:
                return name
        raise AssertionError("no such patient")

    async def start(self) -> None:
        await self.writer.start(
            on_committed=self._committed,
            on_refused=self._refused,
            on_failure=lambda error: None,
        )
        self.intake = self.desk.intake(check_room=self.writer.check_room, book=self.book)
        self.homes = Homes(
            Place(0, 2),
            intake=self.intake,
            ward=self.desk.ward,
            writer=self.writer,
            refresh=self._look,
        )
        streams = [socket.socketpair() for _ in range(2)]
        pair = Pair(*(ends[0] for ends in streams))
        await self.homes.start({1: pair}, told=self._tell, broken=lambda other: None)
        self.broken: asyncio.Queue[int] = asyncio.Queue()
        self.other, self.declared = (
            Link(
                0,
                asked=lambda link, asked: self.asked.put_nowait((link, asked)),
                told=self._tell,
                broken=self.broken.put_nowait,
            )
            for _ in streams
        )
        await self.other.open(streams[0][1])
        await self.declared.open(streams[1][1])

    async def stop(self) -> None:
        self.homes.close()
        for _ in range(2):
            await self.broken.get()
        await self.writer.close()

    def _look(self) -> None:
        self.looked += 1

    def _committed(self, tokens: list[object]) -> None:
        assert self.homes.committed(tokens) == []

    def _refused(self, tokens: list[object], error: OutboxFull) -> None:
        assert self.homes.turned_away(tokens, error) == []

    def _tell(self, results: list[tuple[Waiting, Result]]) -> None:
        for one in results:
            self.told.put_nowait(one)

    def offer(self, device: str, payload: bytes = _PACK, kind: Kind = Kind.VITALS) -> Offer:
        return Offer(Endpoint(7, device), kind, 112, payload)

    async def hands_over(self, *offers: Offer) -> list[Result]:
        """What this worker says of offers of the other."""
        handed = []
        for place, offer in enumerate(offers):
            one = Handed()
            one.waiting = Waiting(bytes([place]), None, None, None)
            handed.append((offer, one))
        self.other.ask(self.now, self.desk.wall, handed)
        async with asyncio.timeout(5):
            heard = [await self.told.get() for _ in offers]
        return [result for _, result in sorted(heard, key=lambda one: one[0].key or b"")]

    def stored(self) -> int:
        return sum(lane.rows for lane in self.writer.status().lanes.values())


@pytest.fixture
async def bench(desk: Desk, tmp_path: pathlib.Path) -> AsyncIterator[Bench]:
    bench = Bench(desk, tmp_path)
    await bench.start()
    yield bench
    await bench.stop()


async def test_a_burst_is_parted_by_homes_and_keeps_its_order(bench: Bench) -> None:
    offers = [
        bench.offer(name)
        for name in (bench.theirs, bench.mine, "unknown", bench.theirs, bench.mine)
    ]
    outcomes: list[Any] = list(bench.homes.admit(offers, now=5.0, wall=bench.desk.wall))
    kinds = [Handed, Admitted, ForbiddenError, Handed, Admitted]
    assert [type(one) for one in outcomes] == kinds
    link, asked = await bench.asked.get()
    assert link is bench.other
    assert asked.offers == [offers[0], offers[3]]
    assert (asked.now, asked.wall) == (5.0, bench.desk.wall)


async def test_what_is_declared_an_emergency_has_a_link_of_its_own(bench: Bench) -> None:
    offers = [bench.offer(bench.theirs, kind=kind) for kind in Kind]
    bench.homes.admit(offers, now=5.0, wall=bench.desk.wall)
    heard = dict([await bench.asked.get() for _ in range(2)])
    kinds = {link: [one.kind for one in asked.offers] for link, asked in heard.items()}
    assert kinds == {
        bench.other: [Kind.VITALS, Kind.SEALED],
        bench.declared: [Kind.ALARM, Kind.SEALED_ALARM],
    }


async def test_what_another_hands_over_is_answered_from_the_disk(bench: Bench) -> None:
    """Both lanes and a refusal in one burst, each in its place."""
    *stored, refused = await bench.hands_over(
        bench.offer(bench.mine),
        bench.offer(bench.mine, kind=Kind.ALARM),
        bench.offer(bench.mine, b"no CBOR at all"),
    )
    assert stored == [Repeated(stored=True), Repeated(stored=True)]
    assert isinstance(refused, BadRequestError)
    assert bench.stored() == 2
    assert bench.writer.status().lanes[Lane.EMERGENCY].rows == 1
    assert bench.homes.counts == {"admitted": 2, "bad_request": 1}


async def test_a_message_is_as_old_as_it_was_when_the_other_received_it(bench: Bench) -> None:
    bench.now = 1000.0
    await bench.hands_over(bench.offer(bench.mine))
    (silent,) = bench.book.silence.sweep(1121.0)
    assert silent.seconds == 121.0


async def test_a_patient_of_another_worker_is_not_taken(bench: Bench) -> None:
    """Two workers have read different rosters: the node comes again when both have read both."""
    (result, good) = await bench.hands_over(bench.offer(bench.theirs), bench.offer(bench.mine))
    assert isinstance(result, OutboxFull)
    assert "roster" in str(result)
    assert good == Repeated(stored=True)
    assert bench.looked == 1
    (unknown,) = await bench.hands_over(bench.offer("unknown"))
    assert isinstance(unknown, ForbiddenError)
    assert bench.stored() == 1


async def test_while_stopping_nothing_more_is_taken(bench: Bench) -> None:
    bench.homes.refusing = "the gateway is stopping"
    (result,) = await bench.hands_over(bench.offer(bench.mine))
    assert isinstance(result, OutboxFull)
    assert str(result) == "the gateway is stopping"
    assert bench.stored() == 0


async def test_a_disk_that_turns_out_full_is_told_and_the_message_may_come_again(
    bench: Bench,
) -> None:
    pack = cbor2.dumps([{0: "hr", 2: 72}, {0: "boot", 2: 1}, {0: "seq", 2: 1}])
    offer = bench.offer(bench.mine, pack)
    bench.disk.full = True
    (result,) = await bench.hands_over(offer)
    assert isinstance(result, OutboxFull)
    bench.disk.full = False
    assert await bench.hands_over(offer) == [Repeated(stored=True)]
    assert bench.stored() == 1


async def test_a_bug_costs_one_message_and_is_told_here(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node's repetition is a new attempt."""
    assign = bench.desk.ward.assignment

    def break_once(device: str) -> Any:
        if device == "bracelet-1":
            raise RuntimeError("planted")
        return assign(device)

    monkeypatch.setattr(bench.desk.ward, "assignment", break_once)
    found = await bench.hands_over(bench.offer("bracelet-1"), bench.offer(bench.mine))
    assert found == [Repeated(stored=False), Repeated(stored=True)]
    assert bench.homes.counts["bug"] == 1
    assert "planted" in caplog.text


async def test_it_waits_for_what_is_owed(bench: Bench) -> None:
    (handed,) = bench.homes.admit([bench.offer(bench.theirs)], now=5.0, wall=bench.desk.wall)
    assert isinstance(handed, Handed)
    link, asked = await bench.asked.get()
    drained = asyncio.create_task(bench.homes.drained(5.0))
    await asyncio.sleep(0)
    assert not drained.done()
    link.tell([Told(asked.number, 0, Repeated(stored=True))])
    async with asyncio.timeout(4):
        await drained


async def test_without_a_link_there_is_a_time_to_come_again(bench: Bench) -> None:
    bench.homes.close()
    for _ in range(2):
        bench.broken.put_nowait(await bench.broken.get())
    (refused,) = bench.homes.admit([bench.offer(bench.theirs)], now=5.0, wall=bench.desk.wall)
    assert isinstance(refused, OutboxFull)
    assert refused.retry_after_s > 0
