"""gateway.sinks.resolving"""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from gateway.errors import TransientDeliveryError
from gateway.lane import Lane
from gateway.sinks.resolving import Resolver
from gateway.sinks.transport import Transport


async def test_a_host_of_this_machine() -> None:
    found = await Resolver().resolve("localhost", 9443, family=socket.AF_INET)
    assert [(one["host"], one["port"], one["hostname"]) for one in found] == [
        ("127.0.0.1", 9443, "localhost")
    ]


async def test_an_address_keeps_its_interface() -> None:
    [found] = await Resolver().resolve("fe80::1%lo", 1, family=socket.AF_INET6)
    assert (found["host"], found["family"]) == ("fe80::1%lo", socket.AF_INET6)


@pytest.mark.parametrize("host", ["", "x" * 64 + ".example", "a..b"])
async def test_what_is_no_name_is_a_failure_like_others(host: str) -> None:
    transport = Transport(f"https://{host}:1", Lane.EMERGENCY, None)
    transport.open()
    with pytest.raises(TransientDeliveryError):
        await transport.request("GET", "/")
    await transport.close()


def test_a_resolver_that_hangs_keeps_nobody_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it asked again while it hangs."""
    over, asked = threading.Event(), []

    def getaddrinfo(*question: object, **_: object) -> list[object]:
        asked.append(question)
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def request() -> None:
        transport = Transport("https://cloud.example:1", Lane.EMERGENCY, None, timeout_s=0.05)
        transport.open()
        for _ in range(3):
            with pytest.raises(TransientDeliveryError):
                await transport.request("GET", "/")
        await transport.close()

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    began = time.monotonic()
    try:
        asyncio.run(request())
        assert time.monotonic() - began < 30
        assert len(asked) == 1
    finally:
        over.set()
