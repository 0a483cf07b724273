"""A gateway for nodes that have a key and mean no good.

Without a fault it is a real process beside a real cloud store, shared by all experiments of one
test run, because a start takes a second. With one it is a gateway in a thread of this process, on
real sockets and a real disk too, where the fault is planted in the product's code.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from gateway import provision
from gateway.roster.devices import Devices, new_device
from tests.acceptance.ward import Ward, a_ward
from tests.integration.peer import KEY, Peer, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.experiments import Run

    Plant = Callable[[], contextlib.AbstractContextManager[object]]
    Faults = Mapping[str, tuple[str, Plant]]
    """Name -> what it is, and what plants it while its block runs."""

DEVICES = 1100
"""d0, d1, ...: patients of the same names."""


class Target:
    """A gateway that is attacked."""

    def __init__(
        self, address: tuple[str, int], status: Callable[[], dict[str, Any]], ward: Ward | None
    ) -> None:
        self.address = address
        self.status = status
        self.ward = ward
        """Its processes; None with a planted fault."""
        self._numbers = count()
        self._peers: list[Peer] = []

    def peer(self, device: str | None = None) -> Peer:
        """A node with an association, of a device that no other has unless it is named."""
        made = Peer(self.address, device or f"d{next(self._numbers) % DEVICES}")
        self._peers.append(made)
        made.shake_hands()
        return made

    def dismiss(self) -> None:
        """All nodes, with a goodbye, so that they leave nothing in the gateway."""
        for one in self._peers:
            one.say_goodbye()
            one.close()
        self._peers.clear()

    def counts(self) -> dict[str, int]:
        """What became of messages: those of the fast lane, and `other.` those of the other."""
        status = self.status()
        others = {f"other.{name}": value for name, value in status["aiocoap_lane"].items()}
        counted: dict[str, int] = {**status["messages"], **others}
        return counted

    def anywhere(self) -> int:
        """A port on which it listens on every address."""
        return int(self.status()["listen"][1].rpartition(":")[2])

    def process(self) -> psutil.Process | None:
        """To look at from outside; None with a planted fault."""
        if self.ward is None or self.ward.gateway is None:
            return None
        return psutil.Process(self.ward.gateway.pid)

    def memory_kib(self) -> int:
        """Resident; 0 with a planted fault."""
        process = self.process()
        return 0 if process is None else process.memory_info().rss // 1024


def enter_devices(state: Path) -> None:
    """Into a roster, all at once."""
    Devices(state / "devices.json").add(
        *(
            new_device(f"d{place}", patient=None, key=KEY, lenient_units=False, today="")
            for place in range(DEVICES)
        )
    )


_shared: dict[float, Target] = {}
_open = contextlib.ExitStack()
atexit.register(_open.close)


def _process(rate: float) -> Target:
    """The shared gateway with this rate limit."""
    target = _shared.get(rate)
    if target is None:
        folder = Path(_open.enter_context(tempfile.TemporaryDirectory(prefix="ward-gateway-")))
        ward = _open.enter_context(a_ward(folder))
        ward.make()
        enter_devices(ward.state)
        ward.environment["WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S"] = str(rate)
        ward.environment["WARD_GATEWAY_COAP__LISTEN"] += f",0.0.0.0:{ward.port_base + 1}"
        ward.begin_gateway()
        ward.start_cloud()
        ward.await_gateway()
        target = _shared[rate] = Target(("127.0.0.1", ward.port_base), ward.status, ward)
    return target


@functools.cache
def _template() -> Path:
    """A ward that is copied, not run. Its cloud store is nowhere."""
    folder = Path(_open.enter_context(tempfile.TemporaryDirectory(prefix="ward-gateway-"))) / "ward"
    provision.make_ward(
        folder, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
    )
    enter_devices(folder / "state")
    return folder


@contextlib.contextmanager
def attacked(run: Run, faults: Faults, *, rate: float = 0.0) -> Iterator[Target]:
    """A gateway for one run. rate: messages a second and device, 0 for no limit."""
    if run.fault is None:
        target = _process(rate)
        try:
            yield target
        finally:
            target.dismiss()
        return
    folder = run.folder / "ward"
    shutil.copytree(_template(), folder)
    with faults[run.fault][1]():
        environment = {
            "WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": str(rate),
            "WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0,0.0.0.0:0",
        }
        running = Running(folder, environment)
        target = Target(running.address, running.status, None)
        try:
            yield target
        finally:
            target.dismiss()
            running.stop()


def described(faults: Faults) -> dict[str, str]:
    """For :class:`tests.experiments.Experiment`."""
    return {name: words for name, (words, _) in faults.items()}
