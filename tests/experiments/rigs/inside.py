"""A whole gateway in this process and loop, between real sockets: nodes here, a cloud stub there.

What a planted fault patches is the product that runs, and nothing has to be started twice.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

import cbor2

from gateway import control, provision
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.coap.numbers import Code
from gateway.config import loading
from gateway.node.link import Link
from gateway.roster.devices import Devices, new_device
from tests.experiments.rigs.cloud_stub import Stub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KEY = b"0123456789abcdef"
CBOR = 112


def good(**values: float | str) -> bytes:
    """A pack of a healthy person, or what is said of them."""
    return cbor2.dumps(
        [
            {0: name, 3: value} if isinstance(value, str) else {0: name, 2: value}
            for name, value in {"hr": 72, **values}.items()
        ]
    )


class Inside:
    """``async with``: a ward with these devices, its gateway, its cloud store."""

    def __init__(
        self, folder: Path, devices: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder / "ward"
        self.state = self.folder / "state"
        provision.make_ward(
            self.folder, ward="W1", cloud_url=None, port_base=None, wall=time.time()
        )
        self.devices = Devices(self.state / "devices.json")
        self.devices.add(
            *(
                new_device(name, patient=None, key=KEY, lenient_units=False, today="2026-11-21")
                for name in devices
            )
        )
        self.stub = Stub(self.folder)
        self._environment = dict(environment or {})
        self._links: list[Link] = []

    async def __aenter__(self) -> Self:
        await self.stub.open()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self._links:
            link.close()
        await self.stub.close()  # a stop waits for what is under way
        await self.stop()

    async def start(self) -> None:
        environment = {
            "WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0",
            "WARD_GATEWAY_CLOUD__URL": self.stub.url,
            **self._environment,
        }
        loaded = loading.load(self.folder / "gateway.toml", environment)
        self.gateway = Gateway(loaded, SystemClock())
        await self.gateway.start()
        host, _, port = self.gateway.addresses[0].rpartition(":")
        self.address = (host, int(port))

    async def stop(self) -> None:
        await self.gateway.stop()

    async def ask(self, command: str) -> Any:
        """As the command line does."""
        return await asyncio.to_thread(control.ask, self.state, command)

    async def alarms(self) -> list[dict[str, Any]]:
        """As `alarm list` shows them."""
        found: list[dict[str, Any]] = await self.ask("alarms")
        return found

    async def link(self, device: str) -> Link:
        """A node with an association."""
        link = await Link.open(*self.address, identity=device, key=KEY)
        self._links.append(link)
        return link


async def post(link: Link, path: str, payload: bytes) -> bool:
    """Whether it was answered 2.04."""
    answer = await link.request(Code.POST, path.split("/"), payload=payload, content_format=CBOR)
    return answer.code == Code.CHANGED
