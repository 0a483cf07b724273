"""The sockets: bursts in, datagrams out. The only module with UDP.

A readable socket is drained, up to 256 datagrams a wake-up, and the whole burst goes to the driver
with one reading of the clocks: asyncio's own datagram transport would cost a callback a datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from gateway.dtls.association import Path
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock

_log = logging.getLogger("ingress")

BURST: Final = 256
"""Datagrams a wake-up: bounds how long deliveries and timers wait for the loop."""

RECEIVE_BUFFER: Final = 8 << 20
"""Bytes the kernel may hold while the loop is busy: a second of 30,000 small datagrams."""

_LARGEST: Final = 65_535


class Sockets:
    """All UDP sockets of the gateway. ``Path.listener`` is the place in ``listen``."""

    def __init__(self, listen: Sequence[str]) -> None:
        self._listen = listen
        self._sockets: list[socket.socket] = []
        self.unsent = 0
        """Datagrams that the kernel would not take; CoAP's retransmission makes up for them."""

    def open(self) -> list[str]:
        """Bind them all; the addresses as bound. Raises ConfigError that names all problems."""
        problems = []
        for place in self._listen:
            try:
                self._sockets.append(_bind(place))
            except (OSError, ValueError, OverflowError) as error:
                problems.append(
                    f"[coap] listen: cannot bind {place!r} ({error}); "
                    "is another gateway running, or the address not this machine's?"
                )
        if problems:
            self.close()
            raise ConfigError(problems)
        return [_name(one.getsockname()) for one in self._sockets]

    def start(
        self,
        receive: Callable[[list[tuple[bytes, Path]], float, float], None],
        clock: Clock,
    ) -> None:
        """Call ``receive(burst, now, wall)`` from now on, in the running event loop."""
        loop = asyncio.get_running_loop()
        for listener, one in enumerate(self._sockets):
            loop.add_reader(one, self._drain, one, listener, receive, clock)

    def _drain(
        self,
        one: socket.socket,
        listener: int,
        receive: Callable[[list[tuple[bytes, Path]], float, float], None],
        clock: Clock,
    ) -> None:
        burst: list[tuple[bytes, Path]] = []
        recvfrom = one.recvfrom
        try:
            for _ in range(BURST):
                data, address = recvfrom(_LARGEST)
                burst.append((data, Path(listener, address)))
        except BlockingIOError:
            pass
        except OSError as error:
            # Linux reports an ICMP error of an earlier send here; the datagrams are fine.
            _log.warning("receiving failed: %s", error)
        if burst:
            receive(burst, clock.monotonic(), clock.wall())

    def send(self, datagrams: list[tuple[bytes, Path]]) -> None:
        """Send, or count what could not be sent, also after closing; never waits."""
        for datagram, (listener, address) in datagrams:
            try:
                self._sockets[listener].sendto(datagram, address)
            except (OSError, IndexError):
                self.unsent += 1

    def close(self) -> None:
        """Stop receiving and close."""
        for one in self._sockets:
            with contextlib.suppress(RuntimeError):  # `check` binds without a loop
                asyncio.get_running_loop().remove_reader(one)
            one.close()
        self._sockets.clear()


def _bind(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        if family == socket.AF_INET6:
            # So that "[::]:5684" and "0.0.0.0:5684" can stand side by side.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        one.bind((host, int(port)))
    except BaseException:
        one.close()
        raise
    return one


def _name(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
