"""A ward of real processes, driven by its command line as a person would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from gateway import control, provision
from gateway.coap.numbers import Code
from gateway.node.link import Link
from gateway.reader import profile
from gateway.reader.fetch import CloudClient
from gateway.reader.opening import Opened, Opening
from gateway.reader.reading import CaughtUp, read
from gateway.roster.devices import Devices, new_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WITHIN_S = 20.0
"""For everything that is waited for: far more than it takes, so that only a fault takes it."""

_made = itertools.count()
"""Wards of this process."""

_PROGRAM = (sys.executable, "-P", "-m", "gateway")
"""As the installed command, it does not look for modules where it is called."""

_PLANTED = Path(__file__).parents[1] / "experiments" / "planted"


class Device(NamedTuple):
    """What ``device add --json`` prints."""

    id: str
    key: str


class Ward:
    """One ward in a folder of its own: its processes, its commands, its files.

    ``environment`` goes to every process, on top of the caller's: there a test sets
    ``WARD_GATEWAY_SECTION__KEY``. ``planted``: the fault that the gateway runs with, a script in
    ``tests/experiments/planted``. ``under``: a program that watches it, words before its command.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ward"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.config = self.folder / "gateway.toml"
        self.state = self.folder / "state"
        self.port_base = _free_port_base()
        self.environment = {"WARD_GATEWAY_COAP__LISTEN": f"127.0.0.1:{self.port_base}"}
        self.uri = f"coaps://127.0.0.1:{self.port_base}"
        self.planted: str | None = None
        self.under: tuple[str, ...] = ()
        self.device: Device
        self.cloud: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self._links: list[Link] = []
        self._others: list[subprocess.Popen[bytes]] = []

    # -- commands

    def command(self, *words: str, code: int = 0) -> str:
        """What a command prints; its exit code must be ``code``."""
        return run(*words, environment=self.environment, code=code)

    def ask(self, *words: str, code: int = 0) -> str:
        """A command that needs the configuration."""
        return self.command("--config", str(self.config), *words, code=code)

    def init(self) -> None:
        """By the command line."""
        self.command("init", str(self.folder), "--ward", "W1", "--port-base", str(self.port_base))

    def make(self) -> None:
        """The same without a process of its own."""
        provision.make_ward(
            self.folder, ward="W1", cloud_url=None, port_base=self.port_base, wall=time.time()
        )

    def add_device(self, name: str, patient: str | None = None) -> Device:
        """Enter a device; a gateway that runs knows it within two seconds."""
        words = ("device", "add", name, "--json", *(("--patient", patient) if patient else ()))
        made = json.loads(self.ask(*words))
        assert made["identity"] == name
        return Device(made["id"], made["key"])

    def enter(self, name: str, patient: str | None = None) -> Device:
        """The same without a process of its own; the gateway must be started afterwards."""
        made = new_device(name, patient=patient, key=None, lenient_units=False, today="2026-11-21")
        Devices(self.state / "devices.json").add(made)
        return Device(name, made.key.decode())

    def read(self, name: str, *words: str) -> list[dict[str, Any]]:
        """The records that a recipient can open, in the order of the cloud store."""
        lines = self.ask("read", "--as", name, "--format", "jsonl", *words)
        return [json.loads(line) for line in lines.splitlines()]

    def opened(self, name: str) -> list[Opened]:
        """The same without a process of its own: every record must open."""

        async def fetch() -> list[Opened]:
            who = profile.load(self.folder / "recipients" / name)
            opening = Opening(who.load_authority(), who.load_sealing_key())
            async with CloudClient(who) as client:
                events = [event async for event in read(client, opening)]
            assert isinstance(events.pop(), CaughtUp)
            assert all(isinstance(event, Opened) for event in events), events
            return events

        return asyncio.run(fetch())

    def places(self, name: str) -> dict[bytes, int]:
        """Record id -> place in the cloud store's order of arrival, as one recipient is told."""

        async def fetch() -> dict[bytes, int]:
            places: dict[bytes, int] = {}
            async with CloudClient(profile.load(self.folder / "recipients" / name)) as client:
                after: int | None = 0
                while after is not None:
                    page = await client.page(after=after, lane=None)
                    places |= {item.header.id: item.cursor for item in page.items}
                    after = page.next
            return places

        return asyncio.run(fetch())

    # -- processes

    def start_cloud(self) -> None:
        self.cloud = self.spawn("cloud", "cloud", "run", "--config", f"{self.folder}/cloud.toml")
        self.ready(self.cloud, "cloud store listening on https://127.0.0.1:")

    def start_gateway(self) -> None:
        self.begin_gateway()
        self.await_gateway()

    def begin_gateway(self, folder: Path | None = None) -> None:
        """``folder``: where it is called."""
        program = _PROGRAM
        if self.planted is not None:
            program = (sys.executable, "-P", str(_PLANTED / f"{self.planted}.py"))
        self.gateway = self.spawn(
            *("gateway", "run", "--config", str(self.config)),
            folder=folder,
            program=(*self.under, *program),
        )

    def await_gateway(self) -> None:
        assert self.gateway is not None
        self.ready(self.gateway, f"ward gateway listening on coaps 127.0.0.1:{self.port_base}")

    def start(self) -> None:
        self.start_cloud()
        self.start_gateway()

    def spawn(
        self,
        log: str,
        *words: str,
        folder: Path | None = None,
        program: tuple[str, ...] = _PROGRAM,
    ) -> subprocess.Popen[bytes]:
        """A command in the background, its standard error in a log; ended with the test."""
        with (self.logs / f"{log}.log").open("ab") as errors:
            process = subprocess.Popen(
                [*program, *words],
                env={**os.environ, **self.environment},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._others.append(process)
        return process

    def ready(self, process: subprocess.Popen[bytes], line: str) -> None:
        """Wait for the line that says so."""
        out = process.stdout
        assert out is not None
        readable, _, _ = select.select([out], [], [], WITHIN_S)
        said = out.readline().decode() if readable else ""
        assert said.startswith(line), f"{said!r}\n{self.log('gateway')}{self.log('cloud')}"

    def stop_gateway(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        assert self.gateway is not None
        return _end(self.gateway, number)

    def stop_cloud(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        assert self.cloud is not None
        return _end(self.cloud, number)

    def end(self) -> None:
        """Every process that is left."""
        for process in self._others:
            if process.poll() is None:
                process.kill()
            process.wait(WITHIN_S)
            if process.stdout is not None:
                process.stdout.close()

    # -- looking at it

    def status(self) -> dict[str, Any]:
        """What the running gateway says of itself."""
        status: dict[str, Any] | None = control.ask(self.state, "status")
        assert status is not None, f"the gateway does not run\n{self.log('gateway')}"
        return status

    def waiting(self, lane: str) -> int:
        """Entries of a lane that are not delivered yet."""
        rows: int = self.status()["outbox"]["lanes"][lane]["rows"]
        return rows

    def delivered(self) -> None:
        """Wait until nothing is left in the outbox."""
        until(lambda: not self.waiting("emergency") and not self.waiting("routine"))

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def assert_no_bugs(self) -> None:
        """Nothing in the logs that a programmer would have to look at."""
        assert not self.status()["messages"].get("bug", 0)
        for name in ("gateway", "cloud"):
            assert "Traceback" not in self.log(name), self.log(name)
            assert "level=error" not in self.log(name), self.log(name)
            assert "bug" not in self.log(name), self.log(name)

    # -- clients

    def post(self, device: Device, path: str, pack: bytes) -> int:
        """The code that a node is answered with for SenML in JSON."""

        async def exchange() -> int:
            link = await self.link(device)
            answer = await link.request(
                Code.POST, path.split("/"), payload=pack, content_format=110
            )
            await self.close_links()
            return answer.code

        return asyncio.run(exchange())

    async def link(self, device: Device) -> Link:
        """A node's association with the gateway, until :meth:`close_links`."""
        key = device.key.encode()
        link = await Link.open("127.0.0.1", self.port_base, identity=device.id, key=key)
        self._links.append(link)
        return link

    async def close_links(self) -> None:
        while self._links:
            self._links.pop().close()
        await asyncio.sleep(0)  # asyncio closes a socket in the next turn of its loop

    def coap_client(self, library: str, device: Device, path: str, *options: str) -> str:
        """:meth:`libcoap` with a device's key."""
        return self.libcoap(
            library, "-u", device.id, "-k", device.key, *options, f"{self.uri}/{path}"
        )

    def libcoap(self, library: str, *words: str) -> str:
        """What libcoap's client logs of one exchange: the messages, as it prints them."""
        program = f"coap-client-{library}"
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: libcoap3-bin)")
        done = subprocess.run(
            [program, "-v", "6", "-B", "10", *words],
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
        return (done.stdout + done.stderr).decode(errors="replace")


def run(*words: str, environment: Mapping[str, str] | None = None, code: int = 0) -> str:
    """A command's output; if it is to fail, what it complains of."""
    done = subprocess.run(
        [*_PROGRAM, *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr if code else done.stdout


def until(holds: Callable[[], object], *, within_s: float = WITHIN_S) -> None:
    """Wait for a condition that has no event to wait for."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    process.send_signal(number)
    return process.wait(WITHIN_S)


def _free_port_base() -> int:
    """Four ports in a row below the range that the kernel gives to clients."""
    # Apart from those of tests beside this one, whose processes have the next numbers, and of the
    # wards of this one, which may not have opened theirs yet.
    first = 20_000 + (os.getpid() * 10 + next(_made) % 10) * 8 % 10_000
    for base in (*range(first, 32_000, 8), *range(20_000, first, 8)):
        with contextlib.ExitStack() as stack:
            try:
                datagrams, streams = socket.SOCK_DGRAM, socket.SOCK_STREAM
                for offset, kind in ((0, datagrams), (2, streams), (3, streams)):
                    one = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if kind is streams:  # what is left of an earlier ward's connections
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


@contextlib.contextmanager
def a_ward(folder: Path) -> Iterator[Ward]:
    """Not even initialised; its processes end with the block."""
    made = Ward(folder)
    try:
        yield made
    finally:
        made.end()
