"""What the service manager hears: the protocol of ``sd_notify(3)``, a datagram of assignments.

It is told and never asked, so nothing here may fail or wait: without ``NOTIFY_SOCKET`` nobody
listens, and what a full socket does not take is said again with the next pulse.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_STATUS: Final = 300


class Notifier:
    """One end of ``$NOTIFY_SOCKET``, or of nothing."""

    def __init__(self, address: str | None) -> None:
        """``address``: a path, or ``@`` and an abstract name."""
        self._address = address
        self._socket: socket.socket | None = None
        if address is not None and address[:1] in ("/", "@"):
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notifier:
        """The one that the service manager has named."""
        return cls(environment.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """Started, or done with reloading."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """The time is what ``Type=notify-reload`` tells this reload from an older one by."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", _status("finishing what is accepted"))

    def alive(self) -> None:
        """For the watchdog. Call it only when everything that must work has just worked."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """A line for ``systemctl status``."""
        self._tell(_status(text))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *assignments: str) -> None:
        if self._socket is not None and self._address is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), self._address)


def _status(text: str) -> str:
    """One line, whatever a failure is called."""
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"
