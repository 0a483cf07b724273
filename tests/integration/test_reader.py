"""The recipient's reader as people start it, against a real cloud store."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from certs.authority import Authority
from certs.files import write_certificate
from cloud.app import start
from gateway.clock import SystemClock
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.cose.encrypt0 import Sealer
    from gateway.cose.envelope import Envelope
    from gateway.cose.record import Header
    from tests.conftest import Reader, Ward

    Epoch = tuple[Sealer, Envelope]

PROGRAM = (sys.executable, "-c", "import sys; from gateway.cli import main; sys.exit(main())")


class Output(NamedTuple):
    """What a finished reader left behind."""

    code: int
    lines: list[str]
    complaints: str

    @property
    def ids(self) -> list[str]:
        return [json.loads(line)["id"] for line in self.lines]


class Cloud:
    """A running store, and a gateway that fills it."""

    def __init__(self, ward: Ward, address: str) -> None:
        self._ward = ward
        self.address = address

    def reader(self, name: str, role: str) -> Reader:
        return self._ward.reader(name, role, cloud=self.address)

    async def store(self, epoch: Epoch, *items: tuple[Header, bytes]) -> None:
        connector = aiohttp.TCPConnector(ssl=self._ward.tls(self._ward.gateway))
        headers = {"Content-Type": "application/cose"}
        async with aiohttp.ClientSession(self.address, connector=connector) as session:
            path = f"/v1/epochs/{epoch[1].epoch.hex()}"
            async with session.put(path, data=epoch[1].message, headers=headers) as answer:
                assert answer.status in {200, 201}
            batch = self._ward.batch(*items)
            async with session.post("/v1/records", data=batch, headers=headers) as answer:
                assert len((await answer.json())["stored"]) == len(items)


@asynccontextmanager
async def running(ward: Ward, listen: str = "127.0.0.1:0") -> AsyncIterator[Cloud]:
    failed = asyncio.get_running_loop().create_future()
    service = await start(ward.config(listen=listen), SystemClock(), failed)
    try:
        host, port = service.address
        yield Cloud(ward, f"https://{host}:{port}")
    finally:
        await service.stop()


async def begin(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *PROGRAM, "read", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def read(reader: Reader, *arguments: str) -> Output:
    child = await begin("--profile", str(reader.folder), *arguments)
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode is not None
    complaints = err.decode()
    assert "Traceback" not in complaints, complaints
    return Output(child.returncode, out.decode().splitlines(), complaints)


async def test_each_role_reads_what_is_its_own(ward: Ward) -> None:
    """The patient everything, the doctor routine, the alarm centre emergencies, others nothing."""
    async with running(ward) as cloud:
        roles = ("patient", "doctor", "alarm-centre", "admin", "auditor")
        readers = {role: cloud.reader(role, role) for role in roles}
        ids = {}
        for lane in Lane:
            epoch = ward.epoch(list(readers.values()), lane=lane)
            item = ward.record(epoch)
            await cloud.store(epoch, item)
            ids[lane] = item[0].id.hex()
        for role, lanes in (
            ("patient", [Lane.EMERGENCY, Lane.ROUTINE]),
            ("doctor", [Lane.ROUTINE]),
            ("alarm-centre", [Lane.EMERGENCY]),
        ):
            output = await read(readers[role], "--format", "jsonl")
            assert (output.code, output.complaints) == (0, "")
            assert output.ids == [ids[lane] for lane in lanes]
        for role in ("admin", "auditor"):
            output = await read(readers[role])
            assert (output.code, output.lines) == (0, [])
            assert f"no record may be read by this recipient ({role}" in output.complaints


async def test_what_is_shown_is_what_the_gateway_sealed(ward: Ward) -> None:
    """Every field of the contract, the node's own message, and each format."""
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        epoch = ward.epoch([doctor])
        item = ward.record(epoch, value=72, received_ms=1_790_000_000_007)
        node_sealed = ward.record(epoch, sealed=(16, b"\x00\x01"))
        await cloud.store(epoch, item, node_sealed)
        output = await read(doctor, "--format", "jsonl")
        first, second = (json.loads(line) for line in output.lines)
        senml = first.pop("senml")
        assert first == {
            "id": item[0].id.hex(),
            "gateway": "gateway-1",
            "device": "bracelet-1",
            "patient": "bed-3",
            "lane": "routine",
            "received": "2026-09-21T14:13:20.007Z",
            "clock": "synchronised",
            "assessment": {"priority": "routine", "findings": [], "news2": None},
        }
        assert [(each["n"], each.get("v"), each.get("vs")) for each in senml] == [
            ("bracelet-1/hr", 72, None),
            ("bracelet-1/rhythm", None, "N"),
        ]
        assert second["senml"] is None
        assert second["sealed"] == {"content_format": 16, "message": "AAE="}
        table = await read(doctor)
        assert "hr 72/min  rhythm N" in "\n".join(table.lines)
        packs = await read(doctor, "--format", "senml")
        assert [json.loads(line) for line in packs.lines] == [senml]
        assert f"record {node_sealed[0].id.hex()} was sealed by its node" in packs.complaints


async def test_what_is_asked_for_is_narrowed(ward: Ward) -> None:
    """By patient, lane and time."""
    async with running(ward) as cloud:
        patient = cloud.reader("paula", "patient")
        routine, emergency = (
            ward.epoch([patient], lane=lane) for lane in (Lane.ROUTINE, Lane.EMERGENCY)
        )
        old = ward.record(routine, received_ms=1_600_000_000_000)
        other = ward.record(routine, patient="bed-4")
        alarm = ward.record(emergency)
        await cloud.store(routine, old, other)
        await cloud.store(emergency, alarm)
        names = {
            item[0].id.hex(): name
            for item, name in ((old, "old"), (other, "other"), (alarm, "alarm"))
        }
        cases = {
            (): ["old", "other", "alarm"],
            ("--patient", "bed-4"): ["other"],
            ("--lane", "emergency"): ["alarm"],
            ("--since", "1h"): ["other", "alarm"],
            ("--since", "2020-09-13T12:26:40Z"): ["old", "other", "alarm"],
            ("--since", "2020-09-13T12:26:40.001Z", "--lane", "routine"): ["other"],
        }
        outputs = await asyncio.gather(
            *(read(patient, "--format", "jsonl", *arguments) for arguments in cases)
        )
        shown = [[names[found] for found in output.ids] for output in outputs]
        assert shown == list(cases.values())
        nothing = await read(patient, "--patient", "bed-9")
        assert "no record matches" in nothing.complaints
        assert (await read(patient, "--since", "yesterday")).code == 2


async def test_many_pages_are_read_to_the_end(ward: Ward) -> None:
    """In order, each once."""
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        epoch = ward.epoch([doctor])
        items = [ward.record(epoch) for _ in range(1201)]
        await cloud.store(epoch, *items[:1000])
        await cloud.store(epoch, *items[1000:])
        output = await read(doctor, "--format", "jsonl")
        assert output.ids == [header.id.hex() for header, _ in items]


async def test_a_tampered_record_is_refused_and_the_others_are_shown(ward: Ward) -> None:
    """One clear line on stderr, exit code 1."""
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        epoch = ward.epoch([doctor])
        items = [ward.record(epoch) for _ in range(3)]
        header, record = items[1]
        items[1] = header, record[:-1] + bytes([record[-1] ^ 1])
        await cloud.store(epoch, *items)
        output = await read(doctor, "--format", "jsonl")
        assert output.code == 1
        assert output.ids == [items[0][0].id.hex(), items[2][0].id.hex()]
        assert f"record {header.id.hex()} was TAMPERED with" in output.complaints
        assert output.complaints.count("\n") == 1


async def test_a_store_that_changes_what_it_holds_is_found_out(ward: Ward) -> None:
    """An envelope with another byte; a record moved to another time."""
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        first, second = ward.epoch([doctor]), ward.epoch([doctor])
        items = [ward.record(first), ward.record(second)]
        await cloud.store(first, items[0])
        await cloud.store(second, items[1])
    database = sqlite3.connect(ward.folder / "cloud.db")
    message = first[1].message
    database.execute(
        "UPDATE epochs SET message = ? WHERE id = ?",
        (message[:-1] + bytes([message[-1] ^ 1]), first[1].epoch),
    )
    database.execute("UPDATE records SET received_ms = 5 WHERE id = ?", (items[1][0].id,))
    database.commit()
    database.close()
    async with running(ward, cloud.address.removeprefix("https://")):
        output = await read(doctor)
    assert (output.code, output.lines) == (1, [])
    said = output.complaints.splitlines()
    assert [items[0][0].id.hex() in said[0], items[1][0].id.hex() in said[1]] == [True, True]
    assert "envelope" in said[0]


async def test_a_store_of_another_authority_is_not_spoken_to(ward: Ward, tmp_path: Path) -> None:
    """A reader whose ca.pem is of another ward says so and ends."""
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Authority.create(tmp_path / "elsewhere", "Elsewhere", wall=ward.wall)
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        write_certificate(doctor.folder / "ca.pem", elsewhere.certificate)
        output = await read(doctor)
    assert (output.code, output.lines) == (1, [])
    assert "no certificate of this ward" in output.complaints


async def test_a_store_that_is_away_is_named(ward: Ward) -> None:
    """Exit code 1, one line."""
    output = await read(ward.reader("anna", "doctor", cloud="https://127.0.0.1:1"))
    assert output.code == 1
    assert "https://127.0.0.1:1 cannot be reached" in output.complaints
    assert output.complaints.count("\n") == 1


async def test_following_goes_on_over_an_outage_until_told_to_stop(ward: Ward) -> None:
    """Nothing twice, nothing missed; said once that the store is away; exit code 0."""
    async with running(ward) as cloud:
        desk = cloud.reader("desk", "alarm-centre")
        epoch = ward.epoch([desk], lane=Lane.EMERGENCY)
        items = [ward.record(epoch) for _ in range(3)]
        child = await begin("--profile", str(desk.folder), "--follow", "--format", "jsonl")
        assert child.stdout is not None
        assert child.stderr is not None

        async def shown() -> Any:
            async with asyncio.timeout(30):
                return json.loads(await child.stdout.readline())["id"]  # type: ignore[union-attr]

        async with asyncio.timeout(30):
            assert b"waiting for what comes" in await child.stderr.readline()
        await cloud.store(epoch, items[0])
        assert await shown() == items[0][0].id.hex()
    async with asyncio.timeout(30):
        assert b"cannot be reached" in await child.stderr.readline()
    async with running(ward, cloud.address.removeprefix("https://")):
        await cloud.store(epoch, items[1], items[2])
        assert [await shown(), await shown()] == [item[0].id.hex() for item in items[1:]]
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            rest, complaints = await child.communicate()
    assert (child.returncode, rest, complaints) == (0, b"", b"")


@pytest.mark.parametrize("option", [["--json", "read"], ["read", "--json"]])
async def test_json_is_jsonl_and_as_finds_the_profile(ward: Ward, option: list[str]) -> None:
    """As on every command that prints a table; the recipients are beside gateway.toml."""
    async with running(ward) as cloud:
        doctor = cloud.reader("anna", "doctor")
        epoch = ward.epoch([doctor])
        item = ward.record(epoch)
        await cloud.store(epoch, item)
        config = str(ward.folder / "gateway.toml")
        child = await asyncio.create_subprocess_exec(
            *PROGRAM, "--config", config, *option, "--as", "anna", stdout=subprocess.PIPE
        )
        out, _ = await child.communicate()
    assert child.returncode == 0
    assert json.loads(out)["id"] == item[0].id.hex()
