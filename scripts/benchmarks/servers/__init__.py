"""The servers under test, each a process of its own; a module of this package for each.

A module has ``start(...)``, a context manager that yields a :class:`Running` and ends the process
afterwards. It raises :class:`Missing` when what it needs is not on this machine: the benchmark
then goes on without it and says so by name. All its arguments have defaults.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

KEY = "benchmarkbenchma"
"""Pre-shared key of every device: 16 characters, because tinydtls holds no more."""

DEVICES = 10_000
"""Their identities are ``bench-0``, ``bench-1`` and so on; a server that keeps a list has all."""

_CPUCLOCK_SCHED = 2

_START_WITHIN_S = 30.0
_STOP_WITHIN_S = 20.0


class Missing(Exception):
    """The server cannot be run here. The words: what to install."""


class Running(NamedTuple):
    """A server that listens on 127.0.0.1."""

    name: str
    port: int
    method: str
    """``POST`` or ``PUT``."""
    path: tuple[str, ...]
    """Segments of the resource that takes a pack of SenML-CBOR and answers 2.04 or 2.01."""
    process: psutil.Process
    acknowledges: str
    """What an answer means, in a few words for the table, as "stored, synced"."""
    dtls: bool = True
    """DTLS 1.2 with PSK-AES128-CCM8 and KEY; else plain UDP."""
    in_flight: int | None = None
    """Requests at one time, of all associations, above which it fails; None: no such limit."""
    warm_up_s: float = 1.0
    """A load of so long before it is at its best: a virtual machine compiles as it runs."""
    separate: bool = False
    """It may answer by an empty acknowledgement and a response of its own (RFC 7252 section
    5.2.2). The generator then opens every answer at once, which costs it more."""

    def cpu(self) -> tuple[float, float]:
        """User and system seconds so far, of the process and its children.

        Their sum is exact to the microsecond. How it divides is known by ticks of 10 ms.
        """
        user = system = 0.0
        for one in (self.process, *self.process.children(recursive=True)):
            # The CPU clock of another process, as clock_getcpuclockid(3) makes it.
            whole = time.clock_gettime(~one.pid << 3 | _CPUCLOCK_SCHED)
            ticks = one.cpu_times()
            share = ticks.user / ((ticks.user + ticks.system) or 1.0)
            user, system = user + whole * share, system + whole * (1 - share)
        return user, system

    def resident(self) -> int:
        """Bytes, of the process and its children."""
        return sum(
            int(one.memory_info().rss)
            for one in (self.process, *self.process.children(recursive=True))
        )


PEERS = ("libcoap", "aiocoap_dtls", "aiocoap_udp", "obvious", "californium")
"""Modules of this package, but ``ours``. A benchmark names those that it compares with."""


def starter(module: str) -> Callable[..., AbstractContextManager[Running]]:
    """``start`` of a module of this package, imported only now: its libraries may be missing.

    Raises Missing.
    """
    try:
        start: Callable[..., AbstractContextManager[Running]] = importlib.import_module(
            f"servers.{module}"
        ).start
    except ImportError as error:
        raise Missing(f"{error.name or error} is not installed") from None
    return start


def free_ports() -> int:
    """The first of four ports in a row that nothing uses, UDP and TCP. Benchmarks may run beside
    each other and beside tests, so everybody looks somewhere else first; below the range that the
    kernel gives to clients."""
    for base in random.sample(range(20_000, 32_000, 4), 1000):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + 4):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        one = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise SystemExit("no four free ports in a row")


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process ends with the block."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_udp(process: subprocess.Popen[bytes], port: int) -> psutil.Process:
    """Wait until the process, or a child of it, has bound the port. Raises SystemExit."""
    until = time.monotonic() + _START_WITHIN_S
    one = psutil.Process(process.pid)
    while process.poll() is None:
        if any(
            connection.laddr.port == port
            for each in (one, *one.children(recursive=True))
            for connection in each.net_connections("udp")
        ):
            return one
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not listen on UDP {port}")
