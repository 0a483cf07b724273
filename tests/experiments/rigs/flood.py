"""Datagrams from 16 million addresses: 127/8 needs no raw sockets to be forged in.

One socket sends with an address of its choice as the source (IP_PKTINFO, man 7 ip); what is
answered comes back to it, as it is bound to all of them. What the kernel drops on the way makes a
flood look harmless, so every datagram must be accounted for: handled or dropped.
"""

from __future__ import annotations

import io
import logging
import random
import select
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Type
from gateway.errors import DtlsError
from gateway.telemetry import log
from tests.acceptance.ward import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.experiments.rigs.hostile import Target
    from tests.integration.peer import Peer

_IP_PKTINFO: Final = 8
_SO_RCVBUFFORCE: Final = 33
_pktinfo: Final = struct.Struct("=i4s4s").pack
_ROOM: Final = socket.CMSG_SPACE(12)
_AT_ONCE: Final = 2000
"""Datagrams before answers are looked at and the gateway is asked how far it is. Asking costs it
more than a datagram, and memory until the garbage collector's next turn."""
_PACE: Final = 20
"""Datagrams together, of so many a second: many at once would be another flood."""
_AHEAD: Final = 4000
"""Datagrams that the gateway may be behind: its socket holds them without a loss."""


def addresses(chance: random.Random, count: int) -> list[str]:
    """Different ones, neither this machine's usual one nor a network's or broadcast."""
    numbers = chance.sample(range(1 << 16, 0xFF0000), count)
    return [f"127.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in numbers]


class Spoofer:
    """One socket, any source address in 127/8."""

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        """port: the source port; 0: any."""
        self._target = target
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if port:
            # Beside a socket that is bound to one address and this port: what is for that goes
            # there.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._socket.bind(("0.0.0.0", port))
        self._socket.setblocking(False)

    def send(self, datagram: bytes, source: str) -> None:
        """From ``source``."""
        choice = _pktinfo(0, socket.inet_aton(source), bytes(4))
        ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, choice)]
        self._socket.sendmsg([datagram], ancillary, 0, self._target)

    def take(self) -> list[tuple[bytes, str]]:
        """The answers that are here, and the address that each was for."""
        found = []
        while True:
            try:
                datagram, ancillary, _, _ = self._socket.recvmsg(65_535, _ROOM)
            except BlockingIOError:
                return found
            found.append((datagram, socket.inet_ntoa(ancillary[0][2][8:12])))

    def answers(self, count: int) -> list[tuple[bytes, str]]:
        """At least so many, or AssertionError."""
        found: list[tuple[bytes, str]] = []
        while len(found) < count:
            readable, _, _ = select.select([self._socket], [], [], WITHIN_S)
            assert readable, f"{len(found)} answers instead of {count}"
            found += self.take()
        return found

    def close(self) -> None:
        self._socket.close()


@contextmanager
def spoofer(target: tuple[str, int], port: int = 0) -> Iterator[Spoofer]:
    """Closed with the block."""
    made = Spoofer(target, port)
    try:
        yield made
    finally:
        made.close()


def is_well(peer: Peer, *, within_s: float = WITHIN_S) -> bool:
    """Whether a node's next record is delivered and answered: a ping with its Reset (RFC 7252
    section 4.3)."""
    mid = peer.next_mid()
    peer.say(wire.encode(Message(Type.CON, Code.EMPTY, mid)))
    try:
        return peer.hear(within_s) == wire.reset(mid)
    except (AssertionError, DtlsError):
        return False


@contextmanager
def log_lines(target: Target) -> Iterator[Callable[[], list[str]]]:
    """What the gateway has logged since the block began, as its own configuration writes it."""
    if target.ward is not None:
        ward, start = target.ward, len(target.ward.log("gateway"))
        yield lambda: ward.log("gateway")[start:].splitlines()
        return
    root, before, stream = logging.getLogger(), logging.getLogger().level, io.StringIO()
    handler = log._Handler(None)
    handler.setStream(stream)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lambda: stream.getvalue().splitlines()
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


class Tally(NamedTuple):
    """Of a flood."""

    sent: int
    bytes_sent: int
    answered: int
    bytes_answered: int
    lost: int
    """Dropped by the kernel before the gateway saw them."""
    seconds: float
    before: dict[str, Any]
    """The gateway's status."""
    after: dict[str, Any]

    def more(self, section: str, name: str) -> int:
        """By how much a count has grown."""
        grown: int = self.after[section].get(name, 0) - self.before[section].get(name, 0)
        return grown

    def unaccounted(self) -> int:
        """Neither handled nor dropped."""
        handled: int = self.after["received_datagrams"] - self.before["received_datagrams"]
        return self.sent - handled - self.lost


def flood(
    target: Target,
    attacker: Spoofer,
    datagrams: Iterable[tuple[bytes, str]],
    *,
    per_s: float = 0.0,
    heard: Callable[[bytes], None] = lambda answer: None,
) -> Tally:
    """Send them all, as fast as the gateway takes them or so many a second, and count.

    datagrams: with their source addresses. heard: gets every answer.
    """
    before = status = target.status()
    sent = size = answered = answered_size = 0
    began = time.monotonic()

    def hear() -> None:
        nonlocal answered, answered_size
        for datagram, _ in attacker.take():
            answered += 1
            answered_size += len(datagram)
            heard(datagram)

    def behind() -> int:
        nonlocal status
        status = target.status()
        hear()
        return sent - _done(status) + _done(before)

    for datagram, source in datagrams:
        attacker.send(datagram, source)
        sent += 1
        size += len(datagram)
        if sent % _AT_ONCE == 0:
            until(lambda: behind() < _AHEAD)
        if per_s and sent % _PACE == 0:
            time.sleep(max(0.0, began + sent / per_s - time.monotonic()))
    deadline = time.monotonic() + WITHIN_S
    while behind() > 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    seconds = time.monotonic() - began
    hear()
    lost = _lost(status) - _lost(before)
    return Tally(sent, size, answered, answered_size, lost, seconds, before, status)


def _lost(status: dict[str, Any]) -> int:
    return sum(status["dropped_by_kernel"].values())


def _done(status: dict[str, Any]) -> int:
    done: int = status["received_datagrams"] + _lost(status)
    return done
