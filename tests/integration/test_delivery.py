"""Outbox, pump and cloud sink over real TLS: against the cloud store, and against a bad one."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import ssl
from collections import deque
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from cloud.app import start as start_cloud
from gateway.clock import SystemClock
from gateway.cose.envelope import Envelope
from gateway.cose.record import decode_batch_untrusted
from gateway.delivery.lanes import Profile
from gateway.delivery.pump import Pump
from gateway.delivery.retry import Policy
from gateway.lane import Lane
from gateway.outbox.config import Config
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.outbox.writer import Writer
from gateway.sinks import Identity
from gateway.sinks.cloud import CloudSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from tests.conftest import Party, Ward

    Behaviour = Callable[["BadCloud", web.BaseRequest], Awaitable[web.StreamResponse | None]]

PROFILE = Profile(
    rows=50,
    size=1 << 20,
    retry=Policy(base_s=0.002, cap_s=0.02, retry_after_cap_s=2.0),
    check_every_s=None,
    hurry_s=None,
    gather_s=0.0,
)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110  the other end is behind a socket
            await asyncio.sleep(0.005)


class BadCloud:
    """A cloud store in memory. Each request to it first meets the next behaviour of a script."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self.records: dict[bytes, bytes] = {}
        self.arrivals: list[bytes] = []
        self.envelopes: set[bytes] = set()
        self.script: deque[Behaviour] = deque()
        self.poison: set[bytes] = set()
        self.requests: list[tuple[str, str]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.script and request.method == "POST":
            answer = await self.script.popleft()(self, request)
            if answer is not None:
                return answer
        if request.method == "PUT":
            self.envelopes.add(bytes.fromhex(request.path.rpartition("/")[2]))
            return web.Response(status=201)
        return await self.store(request)

    async def store(self, request: web.BaseRequest) -> web.StreamResponse:
        party = self._ward.gateway
        batch = decode_batch_untrusted(
            await request.read(), party.key.public_key(), gateway=party.name
        )
        if {header.id for header, _ in batch} & self.poison:
            return web.json_response({"error": "malformed record"}, status=400)
        missing = {header.epoch for header, _ in batch} - self.envelopes
        if missing:
            names = sorted(epoch.hex() for epoch in missing)
            return web.json_response({"error": "no key", "missing_epochs": names}, status=409)
        known = [h.id.hex() for h, _ in batch if h.id in self.records]
        for header, record in batch:
            assert self.records.setdefault(header.id, record) == record
            self.arrivals.append(header.id)
        stored = [h.id.hex() for h, _ in batch if h.id.hex() not in known]
        return web.json_response({"stored": stored, "known": known, "refused": []})


@asynccontextmanager
async def serving(ward: Ward, cloud: BadCloud, party: Party | None = None) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    party = party or ward.cloud
    context.load_cert_chain(party.certificate_path, party.key_path)
    context.load_verify_locations(ward.ca / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(cloud.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Line:
    """The delivering half of a gateway."""

    def __init__(self, ward: Ward, url: str, *, timeout_s: float | None = 2.0) -> None:
        self.ward = ward
        self.failures: list[BaseException] = []
        self.confirmed: list[bytes] = []
        self.writer = Writer(lambda: Store(ward.folder / "outbox.db"), Config(), SystemClock())
        identity = Identity(ward.gateway.name, ward.gateway.key, ward.tls(ward.gateway))
        self.pumps = {
            lane: Pump(
                lane,
                self.writer,
                CloudSink(CloudSink.Config(url=url, timeout_s=timeout_s), lane, identity),
                clock=SystemClock(),
                random=Random(0).randbytes,
                on_delivered=self._delivered,
                profile=PROFILE,
            )
            for lane in Lane
        }

    def _delivered(self, entries: Sequence[Entry], wall: float) -> None:
        self.confirmed += [entry.id for entry in entries]

    async def drained(self) -> None:
        await self.writer.flush()
        await until(lambda: not any(f.rows for f in self.writer.status().lanes.values()))

    async def dead(self) -> dict[bytes, str]:
        letters = await self.writer.dead_letters(0, 1000)
        return {letter.entry.id: letter.reason for letter in letters if letter.entry}

    def put(self, n: int, lane: Lane = Lane.ROUTINE) -> list[bytes]:
        """Records that only BadCloud takes: nothing in it looks into one."""
        envelope = Envelope(b"e" * 16, "gateway-1", b"p" * 16, lane, 1, (), b"envelope")
        entries = [
            Entry(os.urandom(16), lane, b"p" * 16, 1_795_000_000_000, b"e" * 16, b"sealed", None)
            for _ in range(n)
        ]
        self.writer.submit(entries, [envelope], n)
        return [entry.id for entry in entries]


@asynccontextmanager
async def running(ward: Ward, url: str, *, timeout_s: float | None = 2.0) -> AsyncIterator[Line]:
    line = Line(ward, url, timeout_s=timeout_s)
    await line.writer.start(
        on_committed=lambda _: None, on_refused=lambda *_: None, on_failure=line.failures.append
    )
    tasks = [asyncio.create_task(pump.run()) for pump in line.pumps.values()]
    try:
        yield line
    finally:
        await asyncio.gather(*(pump.stop(5) for pump in line.pumps.values()))
        await asyncio.gather(*tasks, return_exceptions=True)
        await line.writer.close()
        assert line.failures == []


# --- against the real cloud store


async def test_both_lanes_arrive_in_the_cloud_store(ward: Ward) -> None:
    readers = [ward.reader("dr-lee", "doctor"), ward.reader("desk", "alarm-centre")]
    service = await start_cloud(
        ward.config(), SystemClock(), asyncio.get_running_loop().create_future()
    )
    try:
        async with running(ward, "https://{}:{}".format(*service.address)) as line:
            ids = []
            for lane in Lane:
                opened = ward.epoch(readers, lane=lane)
                records = [ward.record(opened) for _ in range(120)]
                entries = [
                    Entry(h.id, h.lane, h.patient, h.received_ms, h.epoch, sealed, None)
                    for h, sealed in records
                ]
                line.writer.submit(entries, [opened[1]], lane)
                ids += [header.id for header, _ in records]
            await line.drained()
            assert sorted(line.confirmed) == sorted(ids)
            assert await line.dead() == {}
    finally:
        await service.stop()


# --- against a bad one


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    async def behave(_: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return behave


async def hang(_: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def hang_up(_: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def store_and_hang_up(cloud: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
    """The commit is unknown: the worst of all."""
    await cloud.store(request)
    return await hang_up(cloud, request)


async def half_an_answer(cloud: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
    whole = await cloud.store(request)
    assert isinstance(whole, web.Response)
    assert isinstance(whole.body, bytes)
    response = web.StreamResponse(headers={"Content-Length": str(len(whole.body))})
    await response.prepare(request)
    await response.write(whole.body[:10])
    return await hang_up(cloud, request)


async def pour(_: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b"x" * 65536)
    return response


async def forget_envelopes(cloud: BadCloud, _: web.BaseRequest) -> None:
    cloud.envelopes.clear()


EMPTY = json.dumps({"stored": [], "known": [], "refused": []}).encode()

BEHAVIOURS: dict[str, Behaviour] = {
    "garbage": answer(200, b"\x00\xffgarbage"),
    "another shape": answer(200, b'{"stored": 5}'),
    "200 that mentions nothing": answer(200, EMPTY),
    "204": answer(204),
    "301": answer(301, Location="/elsewhere"),
    "401": answer(401),
    "403": answer(403, b'{"error": "unknown gateway"}'),
    "404": answer(404),
    "409 that names nothing": answer(409),
    "429": answer(429, Retry_After="0"),
    "500": answer(500),
    "503": answer(503, Retry_After="0"),
    "a gzip bomb": answer(200, gzip.compress(bytes(50 << 20)), Content_Encoding="gzip"),
    "endless": pour,
    "hang up": hang_up,
    "half an answer": half_an_answer,
    "store and hang up": store_and_hang_up,
    "forget the envelopes": forget_envelopes,  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_bad_answer_loses_doubles_and_kills_nothing(ward: Ward, name: str) -> None:
    cloud = BadCloud(ward)
    cloud.script.extend([BEHAVIOURS[name]] * 2)
    async with serving(ward, cloud) as url, running(ward, url) as line:
        ids = line.put(120)
        await line.drained()
        assert cloud.records.keys() == set(ids)
        assert sorted(line.confirmed) == sorted(ids)
        assert await line.dead() == {}
        assert ("GET", "/elsewhere") not in cloud.requests
        again = len(cloud.arrivals) - len(ids)
        assert again <= (100 if "answer" in name or "store" in name else 0)


async def test_a_hang_ends_by_the_clock(ward: Ward) -> None:
    cloud = BadCloud(ward)
    cloud.script.append(hang)
    async with serving(ward, cloud) as url, running(ward, url, timeout_s=0.3) as line:
        ids = line.put(10)
        await line.drained()
        assert sorted(line.confirmed) == sorted(ids)


async def test_retry_after_is_kept(ward: Ward) -> None:
    cloud = BadCloud(ward)
    cloud.script.append(answer(503, Retry_After="1"))
    async with serving(ward, cloud) as url, running(ward, url) as line:
        line.put(1)
        began = asyncio.get_running_loop().time()
        await line.drained()
        assert 1.0 <= asyncio.get_running_loop().time() - began < 10


async def test_one_poisoned_record_of_a_thousand(ward: Ward) -> None:
    cloud = BadCloud(ward)
    async with serving(ward, cloud) as url, running(ward, url) as line:
        ids = line.put(1000)
        cloud.poison = {ids[321]}
        await line.drained()
        assert await line.dead() == {ids[321]: "400 malformed record"}
        assert cloud.records.keys() == set(ids) - cloud.poison


async def test_a_refused_record_keeps_the_clouds_words(ward: Ward) -> None:
    cloud = BadCloud(ward)

    async def refuse_one(cloud: BadCloud, request: web.BaseRequest) -> web.StreamResponse:
        stored = json.loads((await cloud.store(request)).body)  # type: ignore[attr-defined]
        refused = stored["stored"].pop()
        stored["refused"] = [{"id": refused, "reason": "other bytes under this id"}]
        return web.json_response(stored)

    async with serving(ward, cloud) as url:
        cloud.envelopes.add(b"e" * 16)
        cloud.script.append(refuse_one)
        async with running(ward, url) as line:
            ids = line.put(10)
            await line.drained()
            assert await line.dead() == {ids[-1]: "other bytes under this id"}
            assert line.confirmed == ids[:-1]


async def test_a_stuck_routine_lane_does_not_hold_an_emergency(ward: Ward) -> None:
    cloud = BadCloud(ward)

    async def hang_routine(cloud: BadCloud, request: web.BaseRequest) -> Any:
        return await hang(cloud, request) if request.path == "/v1/records" else None

    cloud.script.extend([hang_routine] * 4)
    async with serving(ward, cloud) as url, running(ward, url, timeout_s=1.0) as line:
        line.put(200)
        await until(lambda: ("POST", "/v1/records") in cloud.requests)
        began = asyncio.get_running_loop().time()
        [urgent] = line.put(1, Lane.EMERGENCY)
        await until(lambda: urgent in line.confirmed)
        assert asyncio.get_running_loop().time() - began < 0.9
        await line.drained()


async def test_a_server_of_another_authority_gets_nothing(
    ward: Ward, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = type(ward)(tmp_path_factory.mktemp("other"))
    cloud = BadCloud(ward)
    async with serving(ward, cloud, other.cloud) as url, running(ward, url) as line:
        line.put(1)
        pump = line.pumps[Lane.ROUTINE]
        await until(lambda: pump.status().failures >= 2)
        assert pump.status().kind == "not_welcome"
        assert "certificate" in pump.status().failure.lower()
        assert cloud.requests == []
        assert line.confirmed == []
