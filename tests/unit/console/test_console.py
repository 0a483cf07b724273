"""The console on real sockets: who may see what, in the clear and over TLS; nobody can hold it."""

from __future__ import annotations

import asyncio
import ssl
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs.profiles import ADMIN, DOCTOR, GATEWAY
from gateway.clock import SystemClock
from gateway.console import auth, listening
from gateway.console.app import Console
from gateway.errors import ConfigError, UsageError
from tests.unit.console.test_metrics import _FIGURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import Party, Ward

_TOKEN = "t" * 43
_BEARER = {"Authorization": f"Bearer {_TOKEN}"}


class Source:
    """A gateway in a state that the test chooses."""

    def __init__(self) -> None:
        self.why: list[str] = []
        self.away = False

    def trouble(self) -> list[str]:
        return self.why

    async def figures(self) -> dict[str, Any]:
        if self.away:
            raise UsageError("worker 1 does not answer")
        return _FIGURES


@asynccontextmanager
async def _serving(
    source: Source, tls: ssl.SSLContext | None = None, place: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    console = Console(source, _TOKEN, SystemClock(), tls)
    try:
        await console.start([place])
        yield console.urls[0]
    finally:
        await console.stop()


async def _get(
    url: str, headers: dict[str, str] | None = None, tls: ssl.SSLContext | bool = True
) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=tls) as answer,
    ):
        return answer.status, await answer.text()


async def test_health_is_for_everybody_and_figures_for_the_bearer_of_the_token() -> None:
    source = Source()
    async with _serving(source) as url:
        assert await _get(f"{url}/healthz") == (200, "ok\n")
        assert await _get(f"{url}/readyz") == (200, "ready\n")
        status, said = await _get(f"{url}/metrics")
        assert status == 401
        assert "console.token" in said
        for wrong in (f"Bearer {_TOKEN}x", "Bearer", "Basic dDp0", "Bearer \xe4"):
            status, _ = await _get(f"{url}/metrics", {"Authorization": wrong})
            assert status == 401
        status, said = await _get(f"{url}/metrics", _BEARER)
        assert status == 200
        assert "ward_gateway_ready 1" in said
        assert (await _get(f"{url}/other"))[0] == 404


async def test_why_it_is_not_ready_is_not_for_everybody() -> None:
    source = Source()
    source.why = ["the outbox has not answered for 3 s"]
    async with _serving(source) as url:
        assert await _get(f"{url}/readyz") == (503, "not ready\n")
        status, said = await _get(f"{url}/readyz", _BEARER)
        assert (status, said) == (503, "not ready\nthe outbox has not answered for 3 s\n")
        assert await _get(f"{url}/healthz") == (200, "ok\n")
        source.away = True
        assert await _get(f"{url}/metrics", _BEARER) == (503, "worker 1 does not answer\n")


def _client(ward: Ward, party: Party | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ward.ca / "ca.pem")
    if party is not None:
        context.load_cert_chain(party.certificate_path, party.key_path)
    return context


async def test_beyond_this_machine_it_is_https_and_roles_may_come_in(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "is_loopback", lambda place: False)
    mine = auth.server_context(
        ward.gateway.certificate_path, ward.gateway.key_path, ward.ca / "ca.pem"
    )
    admin, doctor = ward.party(ADMIN, "anna"), ward.party(DOCTOR, "dora")
    async with _serving(Source(), mine) as url:
        assert url.startswith("https://")
        assert await _get(f"{url}/healthz", tls=_client(ward, None)) == (200, "ok\n")
        assert (await _get(f"{url}/metrics", tls=_client(ward, None)))[0] == 401
        assert (await _get(f"{url}/metrics", _BEARER, _client(ward, None)))[0] == 200
        assert (await _get(f"{url}/metrics", tls=_client(ward, admin)))[0] == 200
        assert (await _get(f"{url}/metrics", tls=_client(ward, doctor)))[0] == 401
        with pytest.raises(aiohttp.ClientError):
            await _get(url.replace("https", "http") + "/healthz")


async def test_who_connects_after_a_renewal_sees_the_new_certificate(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "is_loopback", lambda place: False)
    old, new = ward.gateway, ward.party(GATEWAY, "gateway-1", hosts=("127.0.0.1",))
    mine = auth.server_context(old.certificate_path, old.key_path, ward.ca / "ca.pem")
    async with _serving(Source(), mine) as url:
        port = int(url.rpartition(":")[2])
        for party in (old, new):
            auth.show(mine, party.certificate_path, party.key_path)
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_client(ward, None))
            seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            assert seen == party.certificate.public_bytes(Encoding.DER)
        with pytest.raises(ConfigError, match="cannot be used for TLS"):
            auth.show(mine, new.certificate_path, old.key_path)


def test_what_is_loopback() -> None:
    for place in ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"):
        assert listening.is_loopback(place), place
    for place in ("0.0.0.0:1", "[::]:1", "192.0.2.1:1", "ward.example:1", "[fe80::1%eth0]:1"):
        assert not listening.is_loopback(place), place


async def _open(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_silent_connections_are_few_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "REQUEST_WITHIN_S", 0.3)
    async with _serving(Source()) as url, asyncio.timeout(20):
        held = [await _open(url) for _ in range(listening.MOST_CONNECTIONS)]
        held[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")  # and nothing more
        reader, writer = await _open(url)
        assert await reader.read() == b"", "one too many"
        writer.close()
        for reader, writer in held:
            await reader.read()  # until it is hung up on
            writer.close()
        assert await _get(f"{url}/healthz") == (200, "ok\n")


async def test_a_connection_is_for_one_request() -> None:
    async with _serving(Source()) as url, asyncio.timeout(20):
        reader, writer = await _open(url)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Server: ward-gateway" in answer
    assert b"aiohttp" not in answer


async def test_a_port_in_use_is_named() -> None:
    async with _serving(Source()) as url:
        place = url.removeprefix("http://")
        with pytest.raises(ConfigError, match=rf"\[console\] listen: {place}"):
            async with _serving(Source(), place=place):
                pass


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    made = auth.token(tmp_path)
    path = tmp_path / auth.NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert auth.token(tmp_path) == made
    assert len(made) >= 43
    path.write_text("short\n")
    with pytest.raises(ConfigError, match="too short"):
        auth.token(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read or made"):
        auth.token(tmp_path / "nowhere")
