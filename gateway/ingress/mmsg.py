"""Many datagrams by one system call: ``recvmmsg`` and ``sendmmsg`` of Linux (man 2 recvmmsg).

With a call for each, a datagram costs 4.0 us of CPU to receive and answer over the loopback, so
3.2, most of it the kernel's own work. Another thread that wants the interpreter is let in once a
burst and not once a datagram: beside one that always computes, 100 took some 20 ms and take 2.

The structures that the kernel reads are laid out once, as arrays of the machine's words, so that a
burst fills them by slices. Addresses are `struct sockaddr` as bytes (man 7 ip, man 7 ipv6).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from array import array
from errno import EAGAIN
from itertools import accumulate
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

_Peer = TypeVar("_Peer")

INBOX: Final = 64
"""Datagrams a call in. 256 are no faster and take four times the memory."""

OUTBOX: Final = 256
"""Datagrams a call out."""

_ROOM: Final = 65_535
"""Bytes for one datagram: no UDP datagram is longer, so that none is ever cut."""

_STRIDE: Final = 65_536 + 576
"""From one to the next. Not a power of two: their first bytes would compete for the same few lines
of the processor's caches."""

_WORD: Final = array("L").itemsize
_WORDS: Final = 8
"""Of a `struct mmsghdr`: address, its length, iovec, how many, control, its length, flags, length
of the datagram. The same with 32 and 64 bits; halves that nobody uses are zero (little-endian)."""
_NAME, _NAME_LENGTH, _IOVEC, _IOVECS, _LENGTH = 0, 1, 2, 3, 7
_DONT_WAIT: Final = 0x40


def _function(library: ctypes.CDLL, name: str, *arguments: type) -> Any:  # noqa: ANN401
    found = library[name]
    found.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, *arguments)
    return found


# Receiving copies what is there and never waits: quicker than to hand the interpreter's lock over
# and to wait for it. Sending does the network stack's work: the others may run meanwhile.
_recvmmsg: Final = _function(ctypes.PyDLL(None, use_errno=True), "recvmmsg", ctypes.c_void_p)
_sendmmsg: Final = _function(ctypes.CDLL(None, use_errno=True), "sendmmsg")


class _Messages:
    """``count`` headers with one iovec and one address of ``name_length`` bytes each."""

    def __init__(self, count: int, name_length: int) -> None:
        self._names = array("B", bytes(count * name_length))
        self._iovecs = array("L", bytes(2 * count * _WORD))
        self._headers = array("L", bytes(_WORDS * count * _WORD))
        names, iovecs = self._names.buffer_info()[0], self._iovecs.buffer_info()[0]
        self._headers[_NAME::_WORDS] = _steps(names, name_length, count)
        self._headers[_NAME_LENGTH::_WORDS] = array("L", [name_length]) * count
        self._headers[_IOVEC::_WORDS] = _steps(iovecs, 2 * _WORD, count)
        self._headers[_IOVECS::_WORDS] = array("L", [1]) * count
        self._start = self._headers.buffer_info()[0]


class Inbox(_Messages):
    """Room for what one call receives."""

    def __init__(self, name_length: int) -> None:
        """name_length: bytes of an address of the socket's family."""
        super().__init__(INBOX, name_length)
        # The kernel gives pages when they are first written: 0.5 MiB for small datagrams.
        self._memory = mmap.mmap(-1, INBOX * _STRIDE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._iovecs[0::2] = _steps(base, _STRIDE, INBOX)
        self._iovecs[1::2] = array("L", [_ROOM]) * INBOX
        self._starts = range(0, INBOX * _STRIDE, _STRIDE)
        self._split_names = Struct(f"{name_length}s").iter_unpack

    def receive(self, socket: int, peers: dict[bytes, _Peer]) -> list[tuple[bytes, _Peer]]:
        """Up to INBOX datagrams that are there, each with what ``peers`` has for its address.

        Fewer than INBOX: there are no more. Raises OSError for an error that waits at the socket.
        """
        count = _recvmmsg(socket, self._start, INBOX, _DONT_WAIT, None)
        if count < 0:
            error = ctypes.get_errno()
            if error == EAGAIN:
                return []
            raise OSError(error, os.strerror(error))
        memory = self._memory
        return [
            (memory[start : start + length], peers[name])
            for length, start, (name,) in zip(
                self._headers[_LENGTH : _WORDS * count : _WORDS],
                self._starts,
                self._split_names(self._names),
                strict=False,  # there is room for more than came
            )
        ]


class Outbox(_Messages):
    """Headers for what one call sends. For one thread: they are in use while others run."""

    def __init__(self, name_length: int) -> None:
        """name_length: bytes of an address of the socket's family."""
        super().__init__(OUTBOX, name_length)
        self._names_view = memoryview(self._names)

    def send(self, socket: int, datagrams: Sequence[bytes], names: Sequence[bytes]) -> int:
        """Send the datagrams, each to its address; how many the kernel would not take."""
        refused = 0
        for start in range(0, len(datagrams), OUTBOX):
            stop = start + OUTBOX
            refused += self._send(socket, datagrams[start:stop], names[start:stop])
        return refused

    def _send(self, socket: int, datagrams: Sequence[bytes], names: Sequence[bytes]) -> int:
        count = len(datagrams)
        # Copied: to ask every one for its place in memory would cost more.
        body = array("B", b"".join(datagrams))
        lengths = array("L", map(len, datagrams))
        places = array("L", accumulate(lengths, initial=body.buffer_info()[0]))
        self._iovecs[0 : 2 * count : 2] = places[:-1]
        self._iovecs[1 : 2 * count : 2] = lengths
        joined = b"".join(names)
        self._names_view[: len(joined)] = joined
        done = refused = 0
        while done < count:
            at = self._start + done * _WORDS * _WORD
            sent = _sendmmsg(socket, at, count - done, _DONT_WAIT)
            if sent > 0:
                done += sent
            else:
                # The call ends before the first that cannot be sent, and when that is the very
                # first, fails. The next may go elsewhere.
                refused += 1
                done += 1
        return refused


def _steps(start: int, step: int, count: int) -> array[int]:
    return array("L", range(start, start + step * count, step))
