"""A link between two workers: offers go over it, and what became of them comes back.

A stream socket without a name, made by the supervisor. Two workers have two, so that no emergency
stands behind what is routine, and each is read in small pieces, so that both have their turn.

What is owed is bounded in number and in bytes; what does not fit is refused at once, and what a
broken link owed is refused too: never is an offer taken for stored that the home has not said to be
on disk.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from typing import TYPE_CHECKING, Final

from gateway.errors import OutboxFull
from gateway.workers import wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from gateway.ingress.batch import Handed, Waiting
    from gateway.intake import Offer
    from gateway.workers.wire import Asked, Result, Told

_log = logging.getLogger("workers")

OWED_MOST: Final = 8192
"""Offers without an answer."""

UNSENT_MOST: Final = 4 << 20
"""Bytes that the other side has not read yet."""

_FRAME_BYTES: Final = 256 << 10
"""Of payloads; one more may follow that begins below it."""

_RETRY_BEHIND_S: Final = 2.0
_RETRY_BROKEN_S: Final = 3.0
"""Max-Age of 5.03 when the other worker has ended: about what a restart takes."""

_PIECE_BYTES: Final = 32 << 10
"""Read at once: some 200 offers, which take a few milliseconds."""


class Link(asyncio.BufferedProtocol):
    """One end, in the event loop.

    asked: the other side wants offers judged and stored. told: those who wait are to be answered.
    broken: the other side has gone, or has said what cannot be understood.
    """

    def __init__(
        self,
        other: int,
        *,
        asked: Callable[[Link, Asked], None],
        told: Callable[[list[tuple[Waiting, Result]]], None],
        broken: Callable[[int], None],
    ) -> None:
        self.other = other
        """The number of the worker at the other end."""
        self._asked, self._told, self._broken = asked, told, broken
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._numbers = count()
        self._owed: dict[int, dict[int, Handed]] = {}
        self.owed = 0
        """Offers without an answer yet."""
        self.idle = asyncio.Event()
        """Set while there are none."""
        self.idle.set()

    async def open(self, end: socket.socket) -> None:
        """Take over one end of a stream socket."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def close(self) -> None:
        """Say what is left to say, then hang up. What is still owed is refused."""
        if self._transport is not None:
            self._transport.close()

    # -- asking

    def refusal(self) -> OutboxFull | None:
        """Why an offer cannot be handed over now; None if it can."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return OutboxFull("the worker of this patient is away", _RETRY_BROKEN_S)
        if self.owed >= OWED_MOST or transport.get_write_buffer_size() > UNSENT_MOST:
            return OutboxFull("the worker of this patient is behind", _RETRY_BEHIND_S)
        return None

    def ask(self, now: float, wall: float, handed: Sequence[tuple[Offer, Handed]]) -> None:
        """Hand over offers of one burst, for which :meth:`refusal` was None; when they came."""
        part: list[tuple[Offer, Handed]] = []
        size = 0
        for one in handed:
            part.append(one)
            size += len(one[0].payload)
            if size >= _FRAME_BYTES:
                self._ask(now, wall, part)
                part, size = [], 0
        if part:
            self._ask(now, wall, part)

    def _ask(self, now: float, wall: float, part: Sequence[tuple[Offer, Handed]]) -> None:
        number = next(self._numbers)
        self._owed[number] = {place: handed for place, (_, handed) in enumerate(part)}
        self.owed += len(part)
        self.idle.clear()
        self._write(wire.ask(number, now, wall, [offer for offer, _ in part]))

    # -- answering

    def tell(self, results: Sequence[Told]) -> None:
        """What became of offers of the other side. Nothing if it has gone."""
        if results:
            self._write(wire.tell(results))

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer += self._piece[:nbytes]
        try:
            found = wire.frames(self._buffer)
        except (ValueError, TypeError, KeyError, EOFError):
            _log.critical("worker %d cannot be understood because of a bug", self.other)
            if self._transport is not None:
                self._transport.abort()
            return
        for one in found:
            try:
                if isinstance(one, list):
                    self._settle(one)
                else:
                    self._asked(self, one)
            except Exception:
                # What is owed for it stays so until the link ends: no answer is a false one.
                _log.exception("a message of another worker was dropped because of a bug")

    def _settle(self, results: Sequence[Told]) -> None:
        answers = []
        for number, place, result in results:
            owed = self._owed[number]
            handed = owed.pop(place)
            if not owed:
                del self._owed[number]
            self.owed -= 1
            if handed.waiting is not None:
                answers.append((handed.waiting, result))
        if not self.owed:
            self.idle.set()
        self._told(answers)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        away = OutboxFull("the worker of this patient is away", _RETRY_BROKEN_S)
        left: list[tuple[Waiting, Result]] = [
            (handed.waiting, away)
            for owed in self._owed.values()
            for handed in owed.values()
            if handed.waiting is not None
        ]
        self._owed.clear()
        self.owed = 0
        self.idle.set()
        self._told(left)
        self._broken(self.other)
