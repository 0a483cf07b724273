"""Ward Gateway as `ward-gateway run` starts it, with a ward of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gateway import provision
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.outbox.store import Store
from gateway.roster.devices import Devices, new_device
from servers import DEVICES, KEY, Running, ending, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

interpreter = sys.executable
"""Of the environment in which the gateway is installed: `scripts/bench --python`."""

INTERPRETED = "ward-gateway, interpreted"
"""The gateway of this environment, where the one of ``interpreter`` is compiled."""

_AT_ONCE = 10_000
_SEALED_BYTES = 380
"""Of a pack of the load."""


class Ward:
    """A ward's folder with DEVICES devices; its processes as they are started, by ``python``."""

    def __init__(self, folder: Path, python: str) -> None:
        wall = time.time()
        self.folder = folder
        self._python = python
        self.port = free_ports()
        provision.make_ward(folder, ward="Bench", cloud_url=None, port_base=self.port, wall=wall)
        Devices(folder / "state" / "devices.json").add(
            *(
                new_device(
                    f"bench-{number}",
                    patient=None,
                    key=KEY.encode(),
                    lenient_units=False,
                    today=provision.today(wall),
                )
                for number in range(DEVICES)
            )
        )

    def certified_device(self) -> Path:
        """A device with a certificate; the folder with its files."""
        wall = time.time()
        device = new_device(
            "bench-certified",
            patient=None,
            key=None,
            lenient_units=False,
            today=provision.today(wall),
        )
        devices = Devices(self.folder / "state" / "devices.json")
        made = provision.add_certified_device(self.folder, devices, device, wall=wall)
        return made.certificate.parent

    def fill(self, records: int) -> None:
        """Let so many routine records wait in the outbox. They have the size of the load's, but no
        key fits them: for measuring beside a backlog, not for delivering it."""
        store = Store(self.folder / "state" / "outbox.db")
        now_ms = int(time.time() * 1000)
        for first in range(0, records, _AT_ONCE):
            store.begin()
            store.add(
                Lane.ROUTINE,
                [
                    Entry(
                        id=(now_ms << 80 | number).to_bytes(16, "big"),
                        lane=Lane.ROUTINE,
                        patient=number.to_bytes(16, "big"),
                        received_ms=now_ms,
                        epoch=bytes(16),
                        sealed=os.urandom(_SEALED_BYTES),
                        key=None,
                    )
                    for number in range(first, min(first + _AT_ONCE, records))
                ],
            )
            store.commit()
        store.close()

    @contextlib.contextmanager
    def program(self, *words: str, **settings: str) -> Iterator[psutil.Process]:
        """``ward-gateway WORDS``, once it has said that it listens.

        settings: of the configuration, as ``WARD_GATEWAY_...`` has them without that prefix.
        """
        environment = {f"WARD_GATEWAY_{name}": value for name, value in settings.items()}
        log = self.folder / f"{words[0]}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                # -P: what is installed there, and not what lies in the current folder.
                [self._python, "-P", "-m", "gateway", *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | environment,
            )
        with ending(process):
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit(log.read_text())
            yield psutil.Process(process.pid)

    @contextlib.contextmanager
    def gateway(self, **settings: str) -> Iterator[Running]:
        """The gateway. No limit on a device's rate; room for all associations."""
        limits = {
            "LIMITS__DEVICE_MESSAGES_PER_S": "0",
            "LIMITS__ASSOCIATIONS": str(2 * DEVICES),
        }
        with self.program(
            "run", "--config", str(self.folder / "gateway.toml"), **(limits | settings)
        ) as one:
            yield Running(
                "ward-gateway", self.port, "POST", ("v",), one, acknowledges="stored, synced"
            )

    @contextlib.contextmanager
    def cloud_store(self) -> Iterator[psutil.Process]:
        """The reference cloud store, where the gateway delivers to."""
        with self.program("cloud", "run", "--config", str(self.folder / "cloud.toml")) as one:
            yield one


def build(python: str | None = None) -> str:
    """Whether the gateway of an environment, by default the one to measure, is ``compiled``
    (setup.py) or ``interpreted``."""
    python = python or interpreter
    said = subprocess.run(
        [python, "-P", "-c", "from gateway.telemetry.build import build; print(build())"],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        raise SystemExit(f"{python}: Ward Gateway is not installed there")
    return said.stdout.strip()


def also_interpreted() -> str | None:
    """The interpreter to measure :data:`INTERPRETED` with; None where that is no other gateway."""
    different = (build(), build(sys.executable)) == ("compiled", "interpreted")
    return sys.executable if different else None


@contextlib.contextmanager
def ward(python: str | None = None) -> Iterator[Ward]:
    """A new ward, gone with the block. On the disk of the current folder: /tmp may be memory."""
    with tempfile.TemporaryDirectory(prefix="ward-gateway-bench-", dir=os.getcwd()) as name:
        yield Ward(Path(name) / "ward", python or interpreter)


@contextlib.contextmanager
def start(python: str | None = None) -> Iterator[Running]:
    """The gateway alone: the cloud store is away, so that only ingest is seen."""
    with ward(python) as made, made.gateway() as running:
        yield running
