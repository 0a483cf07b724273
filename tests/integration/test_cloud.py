"""The cloud store over real TLS, with real certificates, and as a real process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from certs.authority import Authority
from certs.profiles import DOCTOR, GATEWAY
from cloud.api import UPLOADS
from cloud.app import start
from cloud.listeners import LISTENERS_EACH
from gateway.clock import SystemClock
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.clock import Clock
    from tests.conftest import Party, Ward

COSE = {"Content-Type": "application/cose"}


class Caller:
    """Requests with one party's certificate."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        chosen = (COSE if body is not None else {}) | headers
        async with self._session.request(
            method,
            self._address + path,
            data=None if body is None else io.BytesIO(body),
            headers=chosen,
        ) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.read()

    async def drip(self, body: AsyncIterator[bytes]) -> int:
        async with self._session.post(
            self._address + "/v1/records", data=body, headers=COSE
        ) as response:
            return response.status

    def stream(self, **headers: str) -> Any:
        return self._session.get(self._address + "/v1/alarms/events", headers=headers)


class Store:
    """A running cloud store."""

    def __init__(self, ward: Ward, address: str) -> None:
        self._ward = ward
        self.address = address

    @asynccontextmanager
    async def caller(self, party: Party) -> AsyncIterator[Caller]:
        connector = aiohttp.TCPConnector(ssl=self._ward.tls(party))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Caller(session, self.address)


@asynccontextmanager
async def running(ward: Ward, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Store]:
    failed = asyncio.get_running_loop().create_future()
    service = await start(ward.config(**changes), clock or SystemClock(), failed)
    try:
        host, port = service.address
        yield Store(ward, f"https://{host}:{port}")
    finally:
        await service.stop()
    assert not failed.done()


async def put(caller: Caller, envelope: Any) -> int:
    status, _ = await caller.ask("PUT", f"/v1/epochs/{envelope.epoch.hex()}", envelope.message)
    return status


async def events(response: aiohttp.ClientResponse, wanted: int) -> list[tuple[int, Any]]:
    """The next ``wanted`` events: id and data."""
    found: list[tuple[int, Any]] = []
    cursor = 0
    async with asyncio.timeout(10):
        while len(found) < wanted:
            line = (await response.content.readline()).decode().rstrip("\n")
            if line.startswith("id: "):
                cursor = int(line[4:])
            if line.startswith("data: "):
                found.append((cursor, json.loads(line[6:])))
    return found


async def test_a_batch_is_read_back_by_those_whom_role_and_envelope_allow(ward: Ward) -> None:
    """The default rights: patient both lanes, doctor routine, alarm centre emergency."""
    readers = {
        name: ward.reader(name, name)
        for name in ("patient", "doctor", "alarm-centre", "admin", "auditor")
    }
    everybody = list(readers.values())
    stranger = ward.reader("other-doctor", "doctor")
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        items = {}
        for lane, path in ((Lane.ROUTINE, "/v1/records"), (Lane.EMERGENCY, "/v1/alarms")):
            epoch = ward.epoch(everybody, lane=lane)
            assert await put(gateway, epoch[1]) == 201
            items[lane] = ward.record(epoch)
            status, receipt = await gateway.ask("POST", path, ward.batch(items[lane]))
            record_id = items[lane][0].id.hex()
            assert (status, receipt) == (200, {"stored": [record_id], "known": [], "refused": []})
        for name, lanes in (
            ("patient", [Lane.ROUTINE, Lane.EMERGENCY]),
            ("doctor", [Lane.ROUTINE]),
            ("alarm-centre", [Lane.EMERGENCY]),
            ("admin", []),
            ("auditor", []),
        ):
            async with store.caller(readers[name].party) as caller:
                status, page = await caller.ask("GET", "/v1/records")
                assert status == 200
                assert [record["lane"] for record in page["records"]] == lanes
                for record in page["records"]:
                    header, sealed = items[Lane(record["lane"])]
                    assert base64.b64decode(record.pop("record")) == sealed
                    assert record.pop("cursor") > 0
                    assert record == {
                        "id": header.id.hex(),
                        "gateway": "gateway-1",
                        "patient": header.patient.hex(),
                        "lane": header.lane,
                        "received_ms": header.received_ms,
                        "epoch": header.epoch.hex(),
                    }
        async with store.caller(stranger.party) as caller:
            assert await caller.ask("GET", "/v1/records") == (200, {"records": [], "next": None})
            epoch_path = f"/v1/epochs/{items[Lane.ROUTINE][0].epoch.hex()}"
            assert (await caller.ask("GET", epoch_path))[0] == 404


async def test_the_same_batch_and_envelope_again_change_nothing(ward: Ward) -> None:
    """A gateway that did not hear the answer sends again."""
    doctor = ward.reader("anna", "doctor")
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch([doctor])
        assert [await put(gateway, epoch[1]) for _ in range(2)] == [201, 200]
        forged = ward.epoch([doctor])[1]._replace(epoch=epoch[1].epoch)
        status, answer = await gateway.ask(
            "PUT", f"/v1/epochs/{forged.epoch.hex()}", forged.message
        )
        assert status == 403, answer
        item = ward.record(epoch)
        batch = ward.batch(item)
        answers = [await gateway.ask("POST", "/v1/records", batch) for _ in range(2)]
        assert [answer["stored"] for _, answer in answers] == [[item[0].id.hex()], []]
        assert [answer["known"] for _, answer in answers] == [[], [item[0].id.hex()]]
        other = ward.batch((item[0], item[1] + b"x"))
        status, answer = await gateway.ask("POST", "/v1/records", other)
        assert (status, answer["stored"]) == (200, [])
        assert [refusal["id"] for refusal in answer["refused"]] == [item[0].id.hex()]


async def test_a_batch_whose_epoch_is_unknown_is_not_stored(ward: Ward) -> None:
    """409 names what is missing; then the envelope, then the batch again."""
    doctor = ward.reader("anna", "doctor")
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch([doctor])
        batch = ward.batch(ward.record(epoch))
        status, answer = await gateway.ask("POST", "/v1/records", batch)
        assert (status, answer["missing_epochs"]) == (409, [epoch[1].epoch.hex()])
        await put(gateway, epoch[1])
        status, answer = await gateway.ask("POST", "/v1/records", batch)
        assert (status, len(answer["stored"])) == (200, 1)


async def test_a_batch_is_only_taken_with_the_signature_of_who_sends_it(ward: Ward) -> None:
    """Signed by another key, under another name, changed on the way, or no batch at all."""
    doctor = ward.reader("anna", "doctor")
    second = ward.party(GATEWAY, "gateway-2")
    namesake = ward.party(GATEWAY, "gateway-1")
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch([doctor])
        await put(gateway, epoch[1])
        item = ward.record(epoch)
        good = ward.batch(item)
        for bad, expected in (
            (ward.batch(item, gateway=second), 403),
            (ward.batch(item, gateway=namesake), 403),
            (good[:-1] + bytes([good[-1] ^ 1]), 403),
            (b"\x00", 400),
            (b"", 400),
        ):
            status, answer = await gateway.ask("POST", "/v1/records", bad)
            assert status == expected, answer
        async with store.caller(doctor.party) as reader:
            assert (await reader.ask("GET", "/v1/records"))[1]["records"] == []


async def test_a_gateway_speaks_for_itself_only(ward: Ward) -> None:
    """Another gateway's envelope, or records under another gateway's epoch, are refused."""
    doctor = ward.reader("anna", "doctor")
    second = ward.party(GATEWAY, "gateway-2")
    async with running(ward) as store:
        epoch = ward.epoch([doctor])
        async with store.caller(second) as other:
            assert await put(other, epoch[1]) == 403
        async with store.caller(ward.gateway) as gateway:
            assert await put(gateway, epoch[1]) == 201
        async with store.caller(second) as other:
            batch = ward.batch(ward.record(epoch), gateway=second)
            status, answer = await other.ask("POST", "/v1/records", batch)
            assert (status, answer["stored"]) == (200, [])
            assert "another gateway" in answer["refused"][0]["reason"]


async def test_every_path_is_for_its_roles_only(ward: Ward) -> None:
    """403 for the wrong role, whatever is sent."""
    readers = [ward.reader(role, role) for role in ("patient", "doctor", "alarm-centre", "admin")]
    some = "0" * 32
    async with running(ward) as store:
        for party in [reader.party for reader in readers]:
            async with store.caller(party) as caller:
                for method, path in (
                    ("POST", "/v1/records"),
                    ("POST", "/v1/alarms"),
                    ("PUT", f"/v1/epochs/{some}"),
                ):
                    assert (await caller.ask(method, path, b"x"))[0] == 403
                assert (await caller.ask("GET", "/v1/alarms/acks"))[0] == 403
                for path in ("/v1/healthz", "/metrics", "/v1/openapi.json"):
                    assert (await caller.ask("GET", path))[0] == 200
        for party in (readers[0].party, readers[3].party, ward.gateway):
            async with store.caller(party) as caller:
                assert (await caller.ask("GET", "/v1/alarms/events"))[0] == 403
                assert (await caller.ask("POST", f"/v1/alarms/{some}/ack"))[0] == 403
        async with store.caller(ward.gateway) as gateway:
            assert (await gateway.ask("GET", "/v1/records"))[0] == 403
            assert (await gateway.ask("GET", f"/v1/epochs/{some}"))[0] == 403


async def test_nobody_gets_in_without_a_certificate_of_the_ward(ward: Ward, tmp_path: Path) -> None:
    """TLS ends without one, and with one of another authority; the store's own is no client's."""
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Authority.create(tmp_path / "elsewhere", "Elsewhere", wall=ward.wall)
    foreign = ward.party(DOCTOR, "anna", authority=elsewhere)
    bare = ssl.create_default_context(cafile=ward.ca / "ca.pem")
    async with running(ward) as store:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=bare)) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{store.address}/v1/healthz")
        for party in (foreign, ward.cloud):
            async with store.caller(party) as caller:
                with pytest.raises(aiohttp.ClientError):
                    await caller.ask("GET", "/v1/healthz")


async def test_a_reader_without_a_sealing_key_in_the_certificate_sees_nothing(ward: Ward) -> None:
    """Who may open what is said by key, not by name."""
    async with running(ward) as store, store.caller(ward.party(DOCTOR, "anna")) as caller:
        assert (await caller.ask("GET", "/v1/records"))[0] == 403


async def test_what_is_asked_wrongly_is_refused_with_the_reason(ward: Ward) -> None:
    """Sizes, media types, parameters."""
    doctor = ward.reader("anna", "doctor")
    async with running(ward) as store:
        async with store.caller(ward.gateway) as gateway:
            path = "/v1/epochs/" + "0" * 32
            for method, where, body, headers, expected in (
                ("POST", "/v1/records", b"x", {"Content-Type": "application/json"}, 415),
                ("POST", "/v1/records", bytes((8 << 20) + 1), {}, 413),
                ("PUT", path, bytes((64 << 10) + 1), {}, 413),
                ("PUT", "/v1/epochs/xyz", b"x", {}, 400),
                ("PUT", path, b"x", {}, 400),
                ("POST", "/v1/records", b"x", {"X-Large": "x" * 9000}, 400),
            ):
                status, _ = await gateway.ask(method, where, body, **headers)
                assert status == expected, (method, where)
        async with store.caller(doctor.party) as reader:
            for query in ("limit=0", "limit=1001", "after=-1", "lane=x", "patient=1", "lanes=x"):
                status, answer = await reader.ask("GET", f"/v1/records?{query}")
                assert status == 400, query
                assert answer["error"]


async def test_a_routine_record_is_no_alarm(ward: Ward) -> None:
    """The emergency path takes emergencies only."""
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch([ward.reader("anna", "doctor")])
        await put(gateway, epoch[1])
        batch = ward.batch(ward.record(epoch))
        assert (await gateway.ask("POST", "/v1/alarms", batch))[0] == 400


async def test_emergencies_are_pushed_and_a_broken_stream_goes_on_where_it_was(
    ward: Ward,
) -> None:
    """Last-Event-ID: nothing twice, nothing missed."""
    centre, stranger = ward.reader("desk", "alarm-centre"), ward.reader("desk-2", "alarm-centre")
    async with (
        running(ward) as store,
        store.caller(ward.gateway) as gateway,
        store.caller(centre.party) as listener,
    ):
        emergency, others, routine = (
            ward.epoch([centre], lane=Lane.EMERGENCY),
            ward.epoch([stranger], lane=Lane.EMERGENCY),
            ward.epoch([centre], lane=Lane.ROUTINE),
        )
        for epoch in (emergency, others, routine):
            await put(gateway, epoch[1])
        items = [ward.record(emergency) for _ in range(4)]

        async def post(*batch: Any) -> None:
            status, _ = await gateway.ask("POST", "/v1/records", ward.batch(*batch))
            assert status == 200

        await post(items[0])
        async with listener.stream() as stream:
            assert stream.content_type == "text/event-stream"
            assert (await stream.content.readline()).startswith(b"retry")
            await post(ward.record(others), ward.record(routine), items[1])
            [(cursor, data)] = await events(stream, 1)
            assert data["id"] == items[1][0].id.hex()
            assert data["cursor"] == cursor
        await post(items[2])
        async with listener.stream(**{"Last-Event-ID": str(cursor)}) as stream:
            [(_, missed)] = await events(stream, 1)
            assert missed["id"] == items[2][0].id.hex()
            await post(items[3])
            [(_, new)] = await events(stream, 1)
            assert new["id"] == items[3][0].id.hex()
        async with listener.stream(**{"Last-Event-ID": "999999"}) as stream:
            again = await events(stream, 4)  # an id of a database that is no more
            assert [data["id"] for _, data in again] == [header.id.hex() for header, _ in items]


async def test_slow_batches_do_not_hold_up_an_alarm(ward: Ward) -> None:
    """Every place for a routine batch is taken by one that does not come to its end."""
    never, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"x"
        begun.release()
        await never.wait()

    async with (
        running(ward) as store,
        store.caller(ward.gateway) as gateway,
        store.caller(ward.gateway) as slow,
    ):
        stuck = [asyncio.create_task(slow.drip(dripping())) for _ in range(UPLOADS)]
        for _ in stuck:
            await begun.acquire()
        epoch = ward.epoch([ward.reader("desk", "alarm-centre")], lane=Lane.EMERGENCY)
        async with asyncio.timeout(10):
            assert await put(gateway, epoch[1]) == 201
            status, _ = await gateway.ask("POST", "/v1/alarms", ward.batch(ward.record(epoch)))
        assert status == 200
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_event_streams_are_capped_and_one_that_hung_up_makes_room(ward: Ward) -> None:
    """One desk that forgets to hang up is told so; others still get in."""
    centre, other = ward.reader("desk", "alarm-centre"), ward.reader("desk-2", "alarm-centre")
    async with (
        running(ward) as store,
        store.caller(centre.party) as listener,
        AsyncExitStack() as stack,
    ):
        streams = [
            await stack.enter_async_context(listener.stream()) for _ in range(LISTENERS_EACH)
        ]
        assert [stream.status for stream in streams] == [200] * LISTENERS_EACH
        async with listener.stream() as refused:
            assert refused.status == 503
            assert "Retry-After" in refused.headers
        async with store.caller(other.party) as second, second.stream() as stream:
            assert stream.status == 200
        streams[0].close()
        async with asyncio.timeout(10):
            text = b""
            while f"ward_cloud_listeners {LISTENERS_EACH - 1}\n".encode() not in text:
                _, text = await listener.ask("GET", "/metrics")
        async with listener.stream() as stream:
            assert stream.status == 200


class LateClock(SystemClock):
    """The machine's, until it is moved."""

    ahead_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead_s


async def test_a_stream_ends_when_the_listener_s_certificate_does(ward: Ward) -> None:
    """Also one that was opened long before."""
    centre = ward.reader("desk", "alarm-centre")
    clock = LateClock()
    async with (
        running(ward, clock) as store,
        store.caller(centre.party) as listener,
        listener.stream() as stream,
    ):
        clock.ahead_s = 2 * 365 * 86_400
        async with asyncio.timeout(10):
            assert (await stream.content.read()).startswith(b"retry")
        assert (await listener.ask("GET", "/v1/records"))[0] == 401


async def test_an_alarm_is_acknowledged_once_and_its_gateway_learns_by_whom(ward: Ward) -> None:
    """The first acknowledgement stays, and every later caller is told of it."""
    desks = [ward.reader(name, "alarm-centre") for name in ("desk-1", "desk-2")]
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch(desks, lane=Lane.EMERGENCY)
        await put(gateway, epoch[1])
        item = ward.record(epoch)
        await gateway.ask("POST", "/v1/alarms", ward.batch(item))
        answers = []
        for desk in desks:
            async with store.caller(desk.party) as caller:
                status, answer = await caller.ask("POST", f"/v1/alarms/{item[0].id.hex()}/ack")
                assert status == 200
                answers.append(answer)
                assert (await caller.ask("POST", f"/v1/alarms/{'f' * 32}/ack"))[0] == 404
        assert [answer["name"] for answer in answers] == ["desk-1", "desk-1"]
        status, listed = await gateway.ask("GET", "/v1/alarms/acks")
        assert listed["acks"] == [answers[0]]
        async with store.caller(ward.party(GATEWAY, "gateway-2")) as other:
            assert (await other.ask("GET", "/v1/alarms/acks"))[1] == {"acks": []}


async def test_roles_are_configurable(ward: Ward) -> None:
    """A ward may give its doctors the emergency lane too."""
    doctor = ward.reader("anna", "doctor")
    roles = {"doctor": frozenset(Lane)}
    async with running(ward, roles=roles) as store, store.caller(ward.gateway) as gateway:
        emergency, routine = (
            ward.epoch([doctor], lane=lane) for lane in (Lane.EMERGENCY, Lane.ROUTINE)
        )
        await put(gateway, emergency[1])
        await put(gateway, routine[1])
        async with store.caller(doctor.party) as caller, caller.stream() as stream:
            assert (await stream.content.readline()).startswith(b"retry")
            items = [ward.record(routine), ward.record(emergency)]
            await gateway.ask("POST", "/v1/records", ward.batch(*items))
            [(_, pushed)] = await events(stream, 1)
            assert pushed["lane"] == "emergency"
            for query, count in (("lane=emergency", 1), ("lane=routine", 1), ("", 2)):
                _, page = await caller.ask("GET", f"/v1/records?{query}")
                assert len(page["records"]) == count


async def test_nothing_readable_is_in_the_database(ward: Ward) -> None:
    """Canaries in every sealed field: none of them is in any file of the store."""
    doctor = ward.reader("anna", "doctor")
    async with running(ward) as store, store.caller(ward.gateway) as gateway:
        epoch = ward.epoch([doctor])
        await put(gateway, epoch[1])
        item = ward.record(epoch, patient="CANARY-PATIENT")
        node_sealed = ward.record(epoch, sealed=(16, b"CANARY-NODE"))
        await gateway.ask("POST", "/v1/records", ward.batch(item, node_sealed))
        files = list(ward.folder.glob("cloud.db*"))
        content = b"".join(path.read_bytes() for path in files)
        assert item[1] in content, "the search must be able to find something"
        for canary in (b"CANARY", b"bracelet-1", b"rhythm", b"synchronised"):
            assert canary not in content


PROGRAM = (sys.executable, "-c", "import sys; from gateway.cli import main; sys.exit(main())")


def write_cloud_toml(ward: Ward) -> Path:
    path = ward.folder / "cloud.toml"
    path.write_text(
        "[cloud]\n"
        'listen = "127.0.0.1:0"\n'
        f'certificate = "{ward.cloud.certificate_path}"\n'
        f'key = "{ward.cloud.key_path}"\n'
        'ca = "ca/ca.pem"\n'
    )
    return path


@asynccontextmanager
async def process(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    child = await asyncio.create_subprocess_exec(
        *PROGRAM, "cloud", "run", "--config", str(config), stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(20):
            line = (await child.stdout.readline()).decode()
        assert line.startswith("cloud store listening on https://127.0.0.1:")
        yield child, line.split()[-1]
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_kill_9_right_after_an_answer_loses_nothing(ward: Ward) -> None:
    """Answered is on disk: records and the envelope that opens them."""
    doctor = ward.reader("anna", "doctor")
    config = write_cloud_toml(ward)
    answered: list[str] = []
    epoch = ward.epoch([doctor])
    for turn in range(3):
        async with process(config) as (child, address):
            store = Store(ward, address)
            async with store.caller(ward.gateway) as gateway:
                assert await put(gateway, epoch[1]) == (201 if turn == 0 else 200)
                for _ in range(5):
                    items = [ward.record(epoch) for _ in range(3)]
                    status, answer = await gateway.ask("POST", "/v1/records", ward.batch(*items))
                    assert status == 200
                    answered += answer["stored"]
                os.kill(child.pid, signal.SIGKILL)
                assert await child.wait() == -signal.SIGKILL
    async with (
        process(config) as (_, address),
        Store(ward, address).caller(doctor.party) as reader,
    ):
        _, page = await reader.ask("GET", "/v1/records?limit=1000")
    assert len(answered) == 45
    assert [record["id"] for record in page["records"]] == answered


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_stops_when_told_to(ward: Ward, number: signal.Signals) -> None:
    """Exit code 0, with a listener still connected, and nothing left in the WAL."""
    centre = ward.reader("desk", "alarm-centre")
    async with (
        process(write_cloud_toml(ward)) as (child, address),
        Store(ward, address).caller(centre.party) as listener,
        listener.stream() as stream,
    ):
        assert (await stream.content.readline()).startswith(b"retry")
        child.send_signal(number)
        async with asyncio.timeout(10):
            assert await child.wait() == 0
    database = sqlite3.connect(ward.folder / "cloud.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
