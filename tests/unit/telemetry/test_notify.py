"""What the service manager hears, on a real socket of its kind."""

from __future__ import annotations

import os
import re
import socket
import time
from typing import TYPE_CHECKING

import pytest

from gateway.telemetry.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Its socket, and its address as the environment has it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@ward-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(address.replace("@", "\0"))
        one.settimeout(5)
        yield one, address


def test_it_hears_each_thing_in_its_words(manager: tuple[socket.socket, str]) -> None:
    one, address = manager
    notifier = Notifier.of({"NOTIFY_SOCKET": address})
    notifier.ready("listening\non everything")
    notifier.alive()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    notifier.status("x" * 1000)
    notifier.stopping()
    notifier.close()
    heard = [one.recv(4096).decode() for _ in range(5)]
    assert heard[:2] == ["READY=1\nSTATUS=listening on everything", "WATCHDOG=1"]
    reloading = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", heard[2])
    assert reloading is not None
    assert int(reloading[1]) >= before
    assert heard[3] == f"STATUS={'x' * 300}"
    assert heard[4].startswith("STOPPING=1\nSTATUS=")


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2"}])
def test_nobody_listens(environment: dict[str, str]) -> None:
    Notifier.of(environment).alive()


def test_a_manager_that_has_gone_or_does_not_read_costs_nothing(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(address)
        notifier = Notifier(address)
        for _ in range(5000):  # more than a socket holds
            notifier.alive()
    notifier.alive()
    notifier.close()
    notifier.alive()
