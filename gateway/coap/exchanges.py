"""Which messages came before, and what they were answered (RFC 7252 section 4.5).

Keyed by association and Message ID: an endpoint is its association (section 9.1.1), so a new
handshake begins with an empty table. A repeated message is answered with the same bytes again, or a
lost Acknowledgement would never be repaired; while the first one is still being stored, the
repetition is dropped.

The same Message ID with *other* bytes is a fault of the device, not a repetition: losing a
measurement is worse than storing it twice, so it is new, and counted. While two such messages are
in progress at once, nobody can tell whose answer comes first; then neither is remembered.

Memory
    In progress: about 210 bytes a message, at most ``cap`` of them; beyond that a message is
    dropped and comes again. Finished: one ``bytes`` object of 16 bytes and the answer, with its
    key and place in the table about 150 bytes. Two generations of at most ``cap`` / 2 are rotated
    every EXCHANGE_LIFETIME, and earlier when the young one is full; an entry is judged by its own
    expiry and counts as absent after it. With the default cap of 262,144 that is 40 MB when full,
    and the whole lifetime is kept up to 530 messages a second; at 5,000 a second at least the last
    26 s are, where a client's first retransmission comes after 2 to 3 s and its last after 45 s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from gateway.coap.numbers import EXCHANGE_LIFETIME


@dataclass(frozen=True, slots=True)
class New:
    """Not seen: process it, then :meth:`Exchanges.finish` or :meth:`Exchanges.forget`."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """Being processed, or no room to remember it: drop it, it comes again."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Answered: send the same bytes again; ``b""``: there is nothing to send."""

    answer: bytes


Seen = New | InProgress | Replay

_NEW: Final = New()
_IN_PROGRESS: Final = InProgress()
_HEAD = struct.Struct("=dq")

_CONTESTED: Final = None
"""In place of a digest: different messages under one ID are in progress."""


class Exchanges:
    """cap: messages remembered at most, finished and in progress counted apart."""

    def __init__(self, cap: int = 262_144) -> None:
        self._cap = cap
        self._generation = max(1, cap // 2)
        self._running: dict[int, tuple[float, int | None, int]] = {}
        """Expiry, digest, and how many messages with this ID are in progress."""
        self._young: dict[int, bytes] = {}
        self._old: dict[int, bytes] = {}
        self._rotate_at = float("-inf")
        self.reused = 0
        """Messages that came under a living Message ID with other bytes."""
        self.shed = 0
        """Messages dropped because ``cap`` were in progress."""

    def begin(
        self,
        association: int,
        mid: int,
        digest: int,
        now: float,
        lifetime: float = EXCHANGE_LIFETIME,
    ) -> Seen:
        """A message arrives.

        Args:
            digest: of its bytes, in signed 64 bits; ``hash(datagram)`` will do.
            lifetime: seconds; NON_LIFETIME for a Non-confirmable message.
        """
        key = association << 16 | mid
        running = self._running.get(key)
        if running is not None:
            alive = running[0] > now
            if alive and running[1] == digest:
                return _IN_PROGRESS
            # What is renewed goes to the end: an entry that expires later than those behind it
            # would keep them all from being expired.
            del self._running[key]
            if alive:
                self.reused += 1
                self._running[key] = (now + lifetime, _CONTESTED, running[2] + 1)
                return _NEW
        finished = self._young.get(key) or self._old.get(key)
        if finished is not None:
            expires, known = _HEAD.unpack_from(finished)
            if expires > now:
                if known == digest:
                    return Replay(finished[16:])
                self.reused += 1
        if len(self._running) >= self._cap:
            self._expire(now)
            if len(self._running) >= self._cap:
                self.shed += 1
                return _IN_PROGRESS
        self._running[key] = (now + lifetime, digest, 1)
        return _NEW

    def finish(self, association: int, mid: int, answer: bytes, now: float) -> None:
        """It has been answered so. Without effect if it is not in progress (any more)."""
        key = association << 16 | mid
        running = self._running.get(key)
        if running is None:
            return
        expires, digest, pending = running
        if pending > 1:
            self._running[key] = (expires, digest, pending - 1)  # where it was
            return
        del self._running[key]
        if digest is not _CONTESTED:
            if now >= self._rotate_at or len(self._young) >= self._generation:
                self._rotate(now)
            self._young[key] = _HEAD.pack(expires, digest) + answer

    def forget(self, association: int, mid: int) -> None:
        """It was not processed after all: the next one with its ID is new."""
        key = association << 16 | mid
        running = self._running.get(key)
        if running is not None and running[2] > 1:
            self._running[key] = (running[0], running[1], running[2] - 1)
        elif running is not None:
            del self._running[key]

    def sweep(self, now: float) -> None:
        """Forget what has expired. Every few seconds; nothing depends on when."""
        self._expire(now)
        if now >= self._rotate_at:
            self._rotate(now)

    def __len__(self) -> int:
        """Entries held, expired ones included."""
        return len(self._running) + len(self._young) + len(self._old)

    def _expire(self, now: float) -> None:
        """From the oldest on, up to the first that lives: costs no more than it frees.

        They lie in the order in which they came. Those of Non-confirmable messages live shorter
        and wait for the Confirmable ones before them, 102 s at most.
        """
        while self._running:
            key, (expires, _, _) = next(iter(self._running.items()))
            if expires > now:
                break
            del self._running[key]

    def _rotate(self, now: float) -> None:
        self._old = self._young
        self._young = {}
        self._rotate_at = now + EXCHANGE_LIFETIME
