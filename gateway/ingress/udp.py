"""The sockets: bursts in, datagrams out. The only module with UDP.

A readable socket is drained, up to 1024 datagrams a wake-up, and the whole burst goes to the driver
with one reading of the clocks: asyncio's own datagram transport would cost a callback a datagram.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from struct import Struct
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigError
from gateway.ingress.addresses import LENGTH, Peers
from gateway.ingress.mmsg import INBOX, Inbox, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.dtls.association import Path

_log = logging.getLogger("ingress")

BURST: Final = 1024
"""Datagrams a wake-up, if so many wait: emergencies among them can be taken first."""

RECEIVE_BUFFER: Final = 8 << 20
"""Bytes the kernel may hold while the loop is busy: a second of 30,000 small datagrams."""

_SO_RCVBUFFORCE: Final = 33
"""As SO_RCVBUF, beyond net.core.rmem_max; needs CAP_NET_ADMIN (man 7 socket)."""
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
"""Whether a socket hears groups that it has not joined (man 7 ip). At first it does, on a wildcard
address, and every host is in the group of all hosts."""
_SO_MEMINFO: Final = 55
_MEMINFO: Final = Struct("=9I")
_DROPS: Final = 8
"""Place in it of what was dropped (linux/sock_diag.h). Python's socket module knows neither."""


class _Listener:
    """One bound socket and its buffers."""

    def __init__(self, one: socket.socket, number: int) -> None:
        self.socket = one
        name_length = LENGTH[one.family]
        self._inbox, self._outbox = Inbox(name_length), Outbox(name_length)
        self.peers = Peers(number)

    def receive(self) -> list[tuple[bytes, Path]]:
        """What waits, up to BURST."""
        burst: list[tuple[bytes, Path]] = []
        descriptor = self.socket.fileno()
        try:
            while len(burst) < BURST:
                piece = self._inbox.receive(descriptor, self.peers.paths)
                burst += piece
                if len(piece) < INBOX:
                    break
        except OSError as error:
            # Linux reports an ICMP error of an earlier send here; the datagrams are fine.
            _log.warning("receiving failed: %s", error)
        return burst

    def send(self, datagrams: list[bytes], paths: list[Path]) -> int:
        """How many could not be sent."""
        names = self.peers.names
        return self._outbox.send(self.socket.fileno(), datagrams, [names[path] for path in paths])

    def dropped(self) -> int:
        """Datagrams that the kernel had no room for, since the socket was opened."""
        memory = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        count: int = _MEMINFO.unpack(memory)[_DROPS]
        return count


class Sockets:
    """All UDP sockets of the gateway. ``Path.listener`` is the place in ``listen``."""

    def __init__(self, listen: Sequence[str]) -> None:
        self._listen = listen
        self._listeners: list[_Listener] = []
        self.unsent = 0
        """Datagrams that the kernel would not take; CoAP's retransmission makes up for them."""
        self.received = 0
        """Datagrams, whatever became of them."""

    def open(self, bound: Sequence[socket.socket] = ()) -> list[str]:
        """Bind them all, or take over those that somebody has bound; the addresses as bound.

        Raises ConfigError that names all problems.
        """
        if bound:
            self._listeners = [_Listener(one, number) for number, one in enumerate(bound)]
            return [_name(one) for one in bound]
        problems = []
        for place in self._listen:
            try:
                self._listeners.append(_Listener(_bind(place), len(self._listeners)))
            except (OSError, ValueError, OverflowError) as error:
                problems.append(
                    f"[coap] listen: cannot bind {place!r} ({error}); "
                    "is another gateway running, or the address not this machine's?"
                )
        if problems:
            self.close()
            raise ConfigError(problems)
        return [_name(one.socket) for one in self._listeners]

    def share(self, count: int) -> list[list[socket.socket]]:
        """``count`` times the sockets that are open, for a process each: the kernel spreads peers
        over them by address (SO_REUSEPORT). The first ones are those that are open.

        They were bound alone, so a port that somebody else has, or shares, was found out.
        Raises ConfigError.
        """
        shares = [[one.socket for one in self._listeners]]
        try:
            for one in shares[0]:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(1, count):
                shares.append([])
                for place, one in zip(self._listen, shares[0], strict=True):
                    host, port = place.rpartition(":")[0], one.getsockname()[1]
                    shares[-1].append(_bind(f"{host}:{port}", shared=True))
        except OSError as error:
            raise ConfigError([f"[coap] workers: a port cannot be shared ({error})"]) from None
        return shares

    def start(
        self,
        receive: Callable[[list[tuple[bytes, Path]], float, float], None],
        clock: Clock,
    ) -> None:
        """Call ``receive(burst, now, wall)`` from now on, in the running event loop."""
        loop = asyncio.get_running_loop()
        granted = [_receive_buffer(one.socket) for one in self._listeners]
        if granted and min(granted) < RECEIVE_BUFFER:
            _log.warning(
                "the kernel gives a socket %d bytes for datagrams that wait, %d were asked for: "
                "more are lost under load. `sysctl -w net.core.rmem_max=%d`, "
                "or the capability CAP_NET_ADMIN, gives them",
                min(granted),
                RECEIVE_BUFFER,
                RECEIVE_BUFFER,
            )
        for one in self._listeners:
            loop.add_reader(one.socket, self._drain, one, receive, clock)

    def _drain(
        self,
        one: _Listener,
        receive: Callable[[list[tuple[bytes, Path]], float, float], None],
        clock: Clock,
    ) -> None:
        burst = one.receive()
        if burst:
            self.received += len(burst)
            receive(burst, clock.monotonic(), clock.wall())

    def send(self, datagrams: list[tuple[bytes, Path]]) -> None:
        """Send, or count what could not be sent, also after closing; never waits."""
        if not self._listeners:
            self.unsent += len(datagrams)
            return
        # In the order of each socket: one call each, however they are mixed.
        outgoing: list[tuple[list[bytes], list[Path]]] = [([], []) for _ in self._listeners]
        for datagram, path in datagrams:
            bodies, paths = outgoing[path[0]]
            bodies.append(datagram)
            paths.append(path)
        for one, (bodies, paths) in zip(self._listeners, outgoing, strict=True):
            if bodies:
                self.unsent += one.send(bodies, paths)

    def keep(self, path: Path) -> None:
        """This peer has an association: its address is looked up from now on, not made."""
        if self._listeners:
            self._listeners[path.listener].peers.keep(path)

    def forget(self, path: Path) -> None:
        """It has none any more."""
        if self._listeners:
            self._listeners[path.listener].peers.forget(path)

    def dropped(self) -> dict[str, int]:
        """For each socket, by its address, the datagrams that came when its buffer was full."""
        counts = {}
        for one in self._listeners:
            with contextlib.suppress(OSError):  # a kernel that does not tell
                counts[_name(one.socket)] = one.dropped()
        return counts

    def close(self) -> None:
        """Stop receiving and close."""
        for one in self._listeners:
            with contextlib.suppress(RuntimeError):  # `check` binds without a loop
                asyncio.get_running_loop().remove_reader(one.socket)
            one.socket.close()
        self._listeners.clear()


def _bind(place: str, *, shared: bool = False) -> socket.socket:
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # So that "[::]:5684" and "0.0.0.0:5684" can stand side by side.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with contextlib.suppress(OSError):  # before Linux 4.20
                one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        else:
            # DTLS is for two (RFC 7252 section 9.1): nobody is answered who asked everybody.
            one.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        try:
            one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        one.bind((host, int(port)))
    except BaseException:
        one.close()
        raise
    return one


def _receive_buffer(one: socket.socket) -> int:
    """Bytes, without what Linux adds for its own bookkeeping: as much again (man 7 socket)."""
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _name(one: socket.socket) -> str:
    host, port = one.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
