"""A service manager in small: hears what a gateway tells it, and keeps its watchdog."""

from __future__ import annotations

import select
import signal
import socket
import time
from typing import TYPE_CHECKING

from tests.acceptance.ward import WITHIN_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Ward


class Manager:
    """Of one ward's gateway, with ``WatchdogSec=`` in seconds."""

    def __init__(self, ward: Ward, folder: Path, watchdog_s: float) -> None:
        self.ward = ward
        self.watchdog_s = watchdog_s
        self.status = ""
        self.statuses: list[str] = []
        self.heard: set[str] = set()
        """Names of all that was said."""
        self._fed = 0.0
        self._ready = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        ward.environment["NOTIFY_SOCKET"] = str(folder / "notify")

    def start(self) -> None:
        """Returns when the gateway has said that it is ready."""
        self._ready = False
        self.ward.start_gateway()
        deadline = time.monotonic() + WITHIN_S
        while not self._ready and time.monotonic() < deadline:
            self.listen(0.1)
        assert self._ready, "no READY=1"

    def listen(self, seconds: float) -> None:
        """Take in what is said, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            for line in self._socket.recv(4096).decode().splitlines():
                name, _, value = line.partition("=")
                self.heard.add(name)
                if name == "STATUS":
                    self.status = value
                    self.statuses.append(value)
                elif name == "READY":
                    self._ready = True
                if name in ("READY", "WATCHDOG"):
                    self._fed = time.monotonic()

    def silent_s(self) -> float:
        """Since the watchdog was fed last."""
        return time.monotonic() - self._fed

    def watch(self, seconds: float) -> bool:
        """Whether the watchdog has bitten within that time: the gateway is killed then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.listen(0.05)
            if self.silent_s() > self.watchdog_s:
                self.ward.stop_gateway(signal.SIGABRT)
                return True
        return False

    def close(self) -> None:
        self._socket.close()
