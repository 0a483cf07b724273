"""The writer: one thread, the only connection, group commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from gateway.cose.envelope import Envelope
    from gateway.lane import Lane
    from gateway.outbox.entry import DeadLetter, Entry, Leased, Status, StoredEnvelope
    from gateway.outbox.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``[outbox]``."""

    max_bytes: int = 1 << 30
    """Everything the outbox may hold. Keep it well under the size of its partition."""

    reserve_bytes: int = 64 << 20
    """The part of ``max_bytes`` that only emergencies may use."""


class Writer:
    """Takes entries from the event loop, commits them in groups, hands them to the pumps.

    All methods are for the event loop's thread. None blocks.
    """

    def __init__(self, open_store: Callable[[], Store], config: Config) -> None:
        """``open_store`` is called once, in the writer's thread."""

    async def start(
        self,
        *,
        on_committed: Callable[[list[object]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Open the store and start the thread. Both callbacks run in the event loop.

        ``on_committed`` gets the tokens of one commit, in the order of their submission: what
        belongs to them is on disk. ``on_failure`` is called once: from then on nothing is
        acknowledged, every submission is refused, and the process must end.

        Raises:
            OutboxError: in use by another process, or cannot be opened.
        """
        raise NotImplementedError

    def check_room(self, lane: Lane, size: int) -> None:
        """Call before anything is queued; ``size`` is ``len(sealed)``.

        Raises:
            OutboxFull: no room in this lane now.
        """
        raise NotImplementedError

    def submit(
        self, entries: Sequence[Entry], envelopes: Sequence[Envelope], token: object
    ) -> None:
        """Queue the entries of one burst, with the envelopes that they need. Never blocks.

        One submission is one transaction's: all of it is on disk when its token comes back. A
        submission that holds an emergency goes before all routine work, so submit a burst's
        emergencies apart from its routine entries.

        Raises:
            OutboxCorrupt: the writer has failed.
        """
        raise NotImplementedError

    def keep_alarms(self, changed: Sequence[tuple[bytes, bytes]], gone: Sequence[bytes]) -> None:
        """Store alarms (id, sealed) and forget those in ``gone``, before all routine work."""
        raise NotImplementedError

    def woken(self, lane: Lane) -> asyncio.Event:
        """Set after each commit that brought entries to the lane; the pump clears it."""
        raise NotImplementedError

    async def lease(self, lane: Lane, limit: int, max_bytes: int, *, now: float) -> list[Leased]:
        """The next entries of a lane in the order of arrival, at most ``limit`` and, but for the
        first, at most ``max_bytes`` of sealed bytes. Empty when nothing waits.

        Leases live in memory: a restart hands everything out again.
        """
        raise NotImplementedError

    def settle(
        self,
        lane: Lane,
        *,
        done: Sequence[int] = (),
        retry: Sequence[tuple[int, float]] = (),
        dead: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Give leased entries back, by number: delivered, to be tried again from a monotonic
        time on, or dead with the sink's words. One transaction; before any later lease.
        """
        raise NotImplementedError

    async def envelopes(self, lane: Lane, epochs: Sequence[bytes]) -> list[StoredEnvelope]:
        """Those of these epochs' envelopes that are kept here."""
        raise NotImplementedError

    def envelopes_delivered(self, lane: Lane, epochs: Sequence[bytes]) -> None:
        """The sink has these. They are kept for a while, for a sink that lost them."""
        raise NotImplementedError

    async def recent_keys(self) -> list[bytes]:
        """Keys of the last 65,536 messages that had one, delivered ones included, oldest first."""
        raise NotImplementedError

    async def alarms(self) -> list[tuple[bytes, bytes]]:
        """The kept alarms (id, sealed), oldest change first."""
        raise NotImplementedError

    async def dead_letters(self, after: int, limit: int) -> list[DeadLetter]:
        """Dead letters with a number above ``after``, in order."""
        raise NotImplementedError

    async def retry_dead(self, numbers: Sequence[int] | None) -> int:
        """Put dead letters (None: all) back into their lanes; how many there were."""
        raise NotImplementedError

    async def drop_dead(self, numbers: Sequence[int] | None) -> int:
        """Delete dead letters (None: all) for good; how many there were."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Returns when everything queued before is committed. A round trip through the thread,
        hence also what a watchdog asks.
        """
        raise NotImplementedError

    def status(self) -> Status:
        """A copy of the figures. Costs no query."""
        raise NotImplementedError

    async def close(self) -> None:
        """Commit what is queued, close the store, end the thread."""
        raise NotImplementedError
