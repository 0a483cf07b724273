"""Many datagrams a call: as the socket module would have done it, one after the other."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.ingress.addresses import LENGTH
from gateway.ingress.mmsg import INBOX, OUTBOX, Inbox, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator


class Peers(dict[bytes, bytes]):
    """Every address stands for itself."""

    def __missing__(self, name: bytes) -> bytes:
        return name


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets of one family."""
    with (
        socket.socket(request.param, socket.SOCK_DGRAM) as ours,
        socket.socket(request.param, socket.SOCK_DGRAM) as theirs,
    ):
        for one in (ours, theirs):
            one.bind(("127.0.0.1" if request.param == socket.AF_INET else "::1", 0))
            one.settimeout(5)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 212_992)
        ours.setblocking(False)
        yield ours, theirs


def name_of(one: socket.socket, peer: socket.socket) -> bytes:
    """The address of ``one`` as the kernel writes it, found by receiving from it."""
    one.sendto(b"", peer.getsockname())
    ((data, name),) = Inbox(LENGTH[peer.family]).receive(peer.fileno(), Peers())
    assert data == b""
    return name


def test_nothing_there_is_nothing(pair) -> None:
    ours, _ = pair
    assert Inbox(LENGTH[ours.family]).receive(ours.fileno(), Peers()) == []


def test_what_one_call_leaves_the_next_one_brings(pair) -> None:
    """The room is used again: no byte and no address of an earlier datagram shows."""
    ours, theirs = pair
    with socket.socket(theirs.family, socket.SOCK_DGRAM) as third:
        names = [name_of(one, ours) for one in (theirs, third)]
        sent = [(os.urandom(1 + n * 7 % 90), n % 2) for n in range(2 * INBOX + 5)]
        for data, who in sent:
            (theirs, third)[who].sendto(data, ours.getsockname())
        inbox = Inbox(LENGTH[ours.family])
        got = [inbox.receive(ours.fileno(), Peers()) for _ in range(4)]
    assert [len(piece) for piece in got] == [INBOX, INBOX, 5, 0]
    assert [one for piece in got for one in piece] == [(data, names[who]) for data, who in sent]


def test_the_longest_and_the_empty_datagram_are_whole(pair) -> None:
    ours, theirs = pair
    longest = 65_507 if ours.family == socket.AF_INET else 65_527
    sent = [os.urandom(length) for length in (longest, 0, longest, 1)]
    for data in sent:
        theirs.sendto(data, ours.getsockname())
    got = Inbox(LENGTH[ours.family]).receive(ours.fileno(), Peers())
    assert [data for data, _ in got] == sent


def test_more_than_one_call_takes_leave_in_their_order(pair) -> None:
    ours, theirs = pair
    name = name_of(theirs, ours)
    outbox = Outbox(LENGTH[ours.family])
    for count in (1, OUTBOX, OUTBOX + 1):
        sent = [os.urandom(n % 50) for n in range(count)]
        assert outbox.send(ours.fileno(), sent, [name] * count) == 0
        assert [theirs.recv(100) for _ in range(count)] == sent


@pytest.mark.parametrize("places", [{0}, {3, 4}, {9}, {0, 5, 9}, set(range(10))])
def test_one_that_cannot_be_sent_is_counted_and_the_others_leave(pair, places) -> None:
    ours, theirs = pair
    name = name_of(theirs, ours)
    datagrams = [bytes(70_000) if n in places else b"%d" % n for n in range(10)]
    outbox = Outbox(LENGTH[ours.family])
    assert outbox.send(ours.fileno(), datagrams, [name] * 10) == len(places)
    for n in sorted(set(range(10)) - places):
        assert theirs.recv(100) == b"%d" % n
    assert outbox.send(ours.fileno(), [b"after"], [name]) == 0
    assert theirs.recv(100) == b"after"


def test_a_full_buffer_costs_datagrams_and_no_time() -> None:
    """Datagrams of this family keep their place until they are read, and few are allowed."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs,
    ):
        theirs.bind("")  # a name of the kernel's choice
        name = socket.AF_UNIX.to_bytes(2, sys.byteorder) + theirs.getsockname()
        sent = [b"%d" % n for n in range(OUTBOX)]
        refused = Outbox(len(name)).send(ours.fileno(), sent, [name] * OUTBOX)
        assert 0 < refused < OUTBOX
        assert [theirs.recv(10) for _ in range(OUTBOX - refused)] == sent[:-refused]


def test_an_error_of_the_socket_is_told_once() -> None:
    """As the kernel reports an ICMP error: by the next call, which takes nothing."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone,
    ):
        gone.bind(("127.0.0.1", 0))
        ours.connect(gone.getsockname())
        gone.close()
        ours.send(b"x")
        inbox = Inbox(LENGTH[socket.AF_INET])
        with pytest.raises(ConnectionRefusedError):
            inbox.receive(ours.fileno(), Peers())
        assert inbox.receive(ours.fileno(), Peers()) == []
