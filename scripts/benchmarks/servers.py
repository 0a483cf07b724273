"""The servers under test, each a process of its own, with what their process has used."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from gateway import demonstration, provision
from gateway.roster.devices import Devices, new_device

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "benchmarkbenchma"
DEVICES = 1000
_START_WITHIN_S = 20.0


class Running(NamedTuple):
    """A server that listens."""

    name: str
    port: int
    method: str
    path: list[str]
    process: psutil.Process

    def cpu(self) -> tuple[float, float]:
        """User and system seconds so far."""
        times = self.process.cpu_times()
        return times.user, times.system

    def resident(self) -> int:
        """Bytes."""
        return int(self.process.memory_info().rss)


@contextlib.contextmanager
def ward_gateway() -> Iterator[Running]:
    """Ours, with durable acknowledgement; the cloud store is away, so that only ingest is seen."""
    with tempfile.TemporaryDirectory(prefix="ward-gateway-bench-", dir=os.getcwd()) as name:
        folder = Path(name)
        base = demonstration.free_port_base()
        wall = time.time()
        ward = folder / "ward"
        provision.make_ward(ward, ward="Bench", cloud_url=None, port_base=base, wall=wall)
        devices = Devices(ward / "state" / "devices.json")
        devices.add(
            *(
                new_device(
                    f"bench-{n}",
                    patient=None,
                    key=KEY.encode(),
                    lenient_units=False,
                    today=provision.today(wall),
                )
                for n in range(DEVICES)
            )
        )
        environment = {**os.environ, "WARD_GATEWAY_LIMITS__DEVICE_MESSAGES_PER_S": "0"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--config", str(ward / "gateway.toml")],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        with _ending(process):
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit((folder / "log").read_text())
            yield Running("ward-gateway", base, "POST", ["v"], psutil.Process(process.pid))


@contextlib.contextmanager
def libcoap() -> Iterator[Running | None]:
    """libcoap's server: acknowledges, stores nothing. None when it is not installed."""
    program = shutil.which("coap-server-openssl")
    if program is None:
        yield None
        return
    port = demonstration.free_port_base()
    process = subprocess.Popen(
        [program, "-A", "127.0.0.1", "-p", str(port), "-k", KEY, "-h", "bench", "-v", "3"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with _ending(process):
        until = time.monotonic() + _START_WITHIN_S
        one = psutil.Process(process.pid)
        while not any(c.laddr.port == port + 1 for c in one.net_connections("udp")):
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit("coap-server-openssl did not start")
        yield Running("libcoap", port + 1, "PUT", ["example_data"], one)


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
