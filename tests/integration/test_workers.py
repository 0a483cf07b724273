"""Two workers of one gateway, with their links, on sockets that the test can tell apart.

Each has a port of its own here, where the kernel would have chosen for the node: so a test says by
whose socket a message comes in. `tests/acceptance/test_workers.py` has the processes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gateway import provision
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.coap.numbers import Code
from gateway.config import loading
from gateway.node.link import Link
from gateway.roster import secret
from gateway.roster.devices import Devices, new_device
from gateway.workers.lifeline import Pair, Worker
from gateway.workers.place import Place, home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.coap.message import Message

KEY = b"0123456789abcdef"


class Two:
    """Workers 0 and 1, and nodes of a patient of each."""

    def __init__(self, folder: Path) -> None:
        provision.make_ward(
            folder, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
        )
        self.state = folder / "state"
        self._loaded = loading.load(folder / "gateway.toml", {"WARD_GATEWAY_COAP__WORKERS": "2"})
        self._devices = Devices(self.state / "devices.json")
        self._key = secret.pseudonym_key(secret.load(self.state))
        self._opened: list[Link] = []
        self.workers: list[Gateway] = []

    def patient_of(self, worker: int) -> str:
        """One whose home it is."""
        names = (f"P{number}" for number in range(100))
        return next(name for name in names if home(secret.pseudonym(self._key, name), 2) == worker)

    def enter(self, device: str, patient: str) -> None:
        made = new_device(device, patient=patient, key=KEY, lenient_units=False, today="")
        self._devices.add(made)

    async def start(self) -> None:
        routine, declared = socket.socketpair(), socket.socketpair()
        for number in range(2):
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bound.setblocking(False)
            bound.bind(("127.0.0.1", 0))
            pair = Pair(routine[number], declared[number])
            worker = Worker(Place(number, 2), [bound], {1 - number: pair})
            gateway = Gateway(self._loaded, SystemClock(), worker)
            self.workers.append(gateway)
            await gateway.start()

    async def stop(self) -> None:
        for link in self._opened:
            link.close()
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def node(self, device: str, worker: int) -> Link:
        """An association with one of them."""
        host, _, port = self.workers[worker].addresses[0].rpartition(":")
        link = await Link.open(host, int(port), identity=device, key=KEY)
        self._opened.append(link)
        return link

    def stored(self) -> list[int]:
        """Records in the outbox of each."""
        return [
            sum(lane["rows"] for lane in worker.status()["outbox"]["lanes"].values())
            for worker in self.workers
        ]

    def counted(self, name: str) -> list[int]:
        return [worker.status()["messages"].get(name, 0) for worker in self.workers]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    """Each has a patient, and the patient a device: ``home-0`` and ``home-1``."""
    two = Two(tmp_path / "ward")
    for worker in range(2):
        two.enter(f"home-{worker}", two.patient_of(worker))
    await two.start()
    yield two
    await two.stop()


class Sent(NamedTuple):
    code: Code
    text: str


async def post(
    link: Link,
    value: float = 72,
    *,
    path: str = "v",
    query: str = "",
    rhythm: str = "",
    **counters: int,
) -> Sent:
    """One pack; ``query`` keeps it from the fast lane."""
    pack: list[dict[str, object]] = [{"n": "hr", "u": "1/min", "v": value}]
    pack += [{"n": "rhythm", "vs": rhythm}] if rhythm else []
    pack += [{"n": name, "v": count} for name, count in counters.items()]
    answer: Message = await link.request(
        Code.POST,
        (path,),
        payload=json.dumps(pack).encode(),
        content_format=110,
        query=[query] if query else (),
    )
    return Sent(Code(answer.code), answer.payload.decode())


CHANGED = (Code.CHANGED, "")


async def test_a_patient_s_records_are_in_one_outbox_whichever_socket_they_come_by(
    two: Two,
) -> None:
    for worker in (0, 1, 0, 1):
        link = await two.node("home-1", worker)
        assert await post(link) == CHANGED
        assert await post(link, query="other-lane") == CHANGED
        assert await post(link, path="a") == CHANGED
    assert two.stored() == [0, 12]
    assert await post(await two.node("home-0", 0)) == CHANGED
    assert two.stored() == [1, 12]
    # Each is counted once, where it was judged.
    assert two.counted("admitted") == [1, 12]
    assert two.counted("handed_over") == [6, 0]


async def test_a_message_that_comes_again_by_another_socket_is_stored_once(two: Two) -> None:
    """A node that lost its answer and has a new address, and so another worker perhaps."""
    for worker in (0, 1, 0):
        link = await two.node("home-1", worker)
        assert await post(link, boot=1, seq=7) == CHANGED
    assert two.stored() == [0, 1]
    assert two.counted("repeated") == [0, 2]


@pytest.mark.parametrize("query", ["", "other-lane"])
async def test_what_the_home_refuses_is_refused_with_its_words(two: Two, query: str) -> None:
    near, away = await two.node("home-1", 1), await two.node("home-1", 0)
    refused = await post(near, value=-1, query=query)
    assert refused.code == Code.BAD_REQUEST
    assert refused.text
    assert await post(away, value=-1, query=query) == refused
    assert two.stored() == [0, 0]


async def test_two_devices_of_a_patient_by_two_sockets_raise_one_alarm(two: Two) -> None:
    two.enter("second", two.patient_of(1))
    for worker in two.workers:
        worker._refresh()
    for worker, device in enumerate(("home-1", "second")):
        assert await post(await two.node(device, worker), rhythm="VF") == CHANGED
    assert [worker.status()["active_alarms"] for worker in two.workers] == [0, 1]


async def test_a_device_that_only_one_of_them_has_read_of(two: Two) -> None:
    """The roster is looked at every second by each: the other looks when it is asked."""
    two.enter("new", two.patient_of(1))
    two.workers[0]._refresh()
    assert await post(await two.node("new", 0)) == CHANGED


async def test_a_home_that_stops_refuses_and_the_other_ends(two: Two) -> None:
    """5.03 with a time to come again, never an answer that is not true."""
    link = await two.node("home-1", 0)
    assert await post(link) == CHANGED
    stopping = asyncio.create_task(two.workers[1].stop())
    async with asyncio.timeout(10):
        assert "has gone" in await two.workers[0].ended
    await stopping
    assert (await post(link)).code == Code.SERVICE_UNAVAILABLE
    assert (await post(link, query="other-lane")).code == Code.SERVICE_UNAVAILABLE
    assert two.counted("admitted")[0] == 0


async def test_what_is_owed_is_answered_before_a_worker_stops(two: Two) -> None:
    """A message that the home is storing gets its 2.04, though its worker is told to stop."""
    link = await two.node("home-1", 0)
    asked = asyncio.create_task(post(link))
    async with asyncio.timeout(10):
        while two.counted("handed_over") == [0, 0]:  # noqa: ASYNC110 -- a count has no event
            await asyncio.sleep(0)
    await two.workers[0].stop()
    assert await asked == CHANGED
