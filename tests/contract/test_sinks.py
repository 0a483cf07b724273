"""What every registered sink must do. A new sink needs a line in CONFIGS, nothing else."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

import gateway.sinks
from certs import files
from gateway.errors import DeliveryError, TransientDeliveryError
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.registry import load_all
from gateway.sinks import Identity, Sink, sinks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

load_all(gateway.sinks)

CONFIGS: dict[str, Callable[[str], dict[str, Any]]] = {
    "cloud": lambda address: {"url": address, "timeout_s": 0.3},
}
"""Sink name -> settings for a destination at ``http://host:port`` that waits shortly."""

NAMES = [name for name, _ in sinks.items()]
EPOCH = b"e" * 16


def entries(n: int, lane: Lane) -> list[Entry]:
    return [Entry(bytes([i]) * 16, lane, b"p" * 16, i, EPOCH, b"sealed", None) for i in range(n)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(Lane))
def lane(request: pytest.FixtureRequest) -> Lane:
    return Lane(request.param)


@pytest.fixture
def make(name: str, lane: Lane) -> Callable[[str], Sink]:
    def make(address: str) -> Sink:
        kind = sinks.get(name)
        config: Any = kind.Config
        return kind(config(**CONFIGS[name](address)), lane, Identity("gw", files.generate(), None))

    return make


Handler = "Callable[[web.Request], Awaitable[web.StreamResponse]]"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Starts servers that answer everything by one handler; returns the address."""
    runners: list[web.ServerRunner] = []

    async def start(handler: Callable[..., Awaitable[web.StreamResponse]]) -> str:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def expect_transient(sink: Sink, lane: Lane) -> None:
    await sink.open()
    try:
        with pytest.raises(TransientDeliveryError):
            await sink.deliver(entries(3, lane))
        with pytest.raises(TransientDeliveryError):
            await sink.deliver_envelope(EPOCH, b"envelope")
        with pytest.raises(DeliveryError):
            await sink.check()
    finally:
        await sink.close()


async def test_a_destination_that_is_not_there_is_transient(
    make: Callable[[str], Sink], lane: Lane
) -> None:
    with socket.socket() as bound:  # bound, not listening: refused, and taken by nobody else
        bound.bind(("127.0.0.1", 0))
        await expect_transient(make(f"http://127.0.0.1:{bound.getsockname()[1]}"), lane)


async def test_a_name_that_does_not_resolve_is_transient(
    make: Callable[[str], Sink], lane: Lane
) -> None:
    await expect_transient(make("http://nowhere.invalid:1"), lane)


async def test_a_destination_that_hangs_is_transient_and_bounded(
    make: Callable[[str], Sink], lane: Lane, serve: Callable[..., Awaitable[str]]
) -> None:
    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    address = await serve(hang)
    async with asyncio.timeout(10):
        await expect_transient(make(address), lane)


async def test_a_destination_that_hangs_up_is_transient(
    make: Callable[[str], Sink], lane: Lane, serve: Callable[..., Awaitable[str]]
) -> None:
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    await expect_transient(make(await serve(hang_up)), lane)


async def test_an_endless_answer_is_not_read(
    make: Callable[[str], Sink], lane: Lane, serve: Callable[..., Awaitable[str]]
) -> None:
    sent = 0

    async def pour(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    await expect_transient(make(await serve(pour)), lane)
    assert sent < 100 << 20


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 502, 503])
async def test_what_is_not_the_records_fault_is_transient(
    make: Callable[[str], Sink], lane: Lane, serve: Callable[..., Awaitable[str]], status: int
) -> None:
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    await expect_transient(make(await serve(answer)), lane)
    assert "/elsewhere" not in seen, "no redirect is followed"


async def test_making_one_has_no_side_effect(make: Callable[[str], Sink], lane: Lane) -> None:
    sink = make("http://127.0.0.1:1")
    with pytest.raises(TransientDeliveryError):
        await sink.deliver(entries(1, lane))
    await sink.close()


async def test_it_can_be_closed_twice_and_opened_again(
    make: Callable[[str], Sink], lane: Lane
) -> None:
    sink = make("http://127.0.0.1:1")
    for _ in range(2):
        await expect_transient(sink, lane)
        await sink.close()
