"""A whole gateway and its nodes in one event loop in virtual time: an hour of radio in seconds.

Sockets, files and the writer's thread are real; only waiting is not. When nothing is ready, the
loop's time jumps to the next timer, unless the disk is at work: then it waits for the disk, which
takes no virtual time at all. Datagrams on loopback are there when ``sendto`` returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway import provision
from gateway.app import Gateway
from gateway.clock import plausible
from gateway.config import loading
from gateway.roster.devices import Devices, new_device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

KEY = b"sixteen bytes ok"
_Result = TypeVar("_Result")
_DISK_S = 0.02
"""Real seconds of patience with the disk, again and again."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc]
    """Jumps instead of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.loop.is_disk_busy():
            return super().select(_DISK_S)
        self.loop.jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins with the machine's, and jumps."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self.is_disk_busy: Callable[[], bool] = lambda: False
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class VirtualClock:
    """A gateway's clocks by the loop's time. ``ahead``: what to add to get UTC; may be set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ahead = time.time() - loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time() + self.ahead

    def synchronised(self) -> bool:
        return plausible(self.wall())


class Inside:
    """A gateway that runs in this loop. Nobody takes what it wants to deliver."""

    def __init__(self, gateway: Gateway, clock: VirtualClock, state: Path) -> None:
        self.gateway = gateway
        self.clock = clock
        self.state = state
        self.port = int(gateway.addresses[0].rpartition(":")[2])

    def status(self) -> dict[str, Any]:
        return self.gateway.status()

    def rows(self) -> int:
        """On disk, both lanes."""
        lanes = self.status()["outbox"]["lanes"]
        return sum(lane["rows"] for lane in lanes.values())

    def remembered(self) -> int:
        """Exchanges in the table."""
        return len(self.gateway._exchanges)

    def alarms(self) -> list[dict[str, Any]]:
        """Those whose condition holds."""
        return self.gateway._book.listed()

    def count(self, name: str) -> int:
        """Of messages."""
        counted: int = self.status()["messages"].get(name, 0)
        return counted


_MEMORY: Final = Path("/dev/shm")


@contextlib.contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """A folder on a disk in memory, where there is one, else ``folder``: no experiment in virtual
    time is about the disk, and each of thousands of commits waits for it."""
    if not os.access(_MEMORY, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ward-gateway-", dir=_MEMORY) as place:
        yield Path(place)


def play(
    folder: Path,
    devices: int,
    scenario: Callable[[Inside], Awaitable[_Result]],
    *,
    ahead: float = 0.0,
) -> tuple[_Result, dict[str, Any]]:
    """Run ``scenario`` with a fresh gateway that knows the devices d0, d1, ...

    ahead: how wrong the gateway's time of day is at first. Returns what ``scenario`` returns, and
    the gateway's last status.
    """
    ward = folder / f"ward-{time.monotonic_ns()}"
    provision.make_ward(
        ward, ward="W1", cloud_url="https://127.0.0.1:9", port_base=None, wall=time.time()
    )
    registry = Devices(ward / "state" / "devices.json")
    registry.add(
        *(
            new_device(f"d{number}", patient=None, key=KEY, lenient_units=False, today="2026-11-21")
            for number in range(devices)
        )
    )
    environment = {
        "WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0",
        "WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": "0",
    }
    loaded = loading.load(ward / "gateway.toml", environment)
    loop = VirtualLoop()

    async def run() -> tuple[_Result, dict[str, Any]]:
        clock = VirtualClock(loop)
        clock.ahead += ahead
        gateway = Gateway(loaded, clock)
        try:
            await gateway.start()
            driver, answered = gateway._driver, 0
            committed = driver.committed

            def count(batches: list[Any]) -> None:
                nonlocal answered
                answered += sum(len(batch) for batch in batches)
                committed(batches)

            driver.committed = count  # type: ignore[method-assign]
            loop.is_disk_busy = lambda: driver.counts["admitted"] > answered
            result = await scenario(Inside(gateway, clock, ward / "state"))
            return result, gateway.status()
        finally:
            loop.is_disk_busy = lambda: False
            await gateway.stop()

    logging.disable(logging.CRITICAL)  # thousands of planted emergencies
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(run())
    finally:
        logging.disable(logging.NOTSET)
