"""The port of the cloud store: what any database behind it must do.

A store holds key envelopes, sealed records and acknowledgements. It can read none of what is
sealed: it sees record ids, pseudonyms, lanes, times and who may open what.

Rules that every implementation keeps, held by ``tests/contract/test_cloud_stores.py``:

1. An awaited write has returned only after it is durable: what the gateway was told survives a
   ``kill -9`` of this process and a power cut.
2. Writing the same thing twice changes nothing; writing another thing under a used id is refused.
3. Records keep the order in which they were stored. A *cursor* is a record's place in that order:
   it only grows and is never used twice.
4. Every answer is bounded, in rows and in bytes.
5. A record is visible to a reader whose key id is among the readers of the record's epoch, in the
   lanes that the caller names. Nothing else is ever returned.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.errors import GatewayError
from gateway.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from gateway.cose.envelope import Envelope
    from gateway.cose.record import Header
    from gateway.lane import Lane

PAGE_RECORDS = 1000
"""Most records of one page (``limit``)."""

PAGE_BYTES = 8 << 20
"""A page ends early after this much sealed data, so that a thousand large records stay sendable."""


class StoreError(GatewayError):
    """The store cannot go on: nothing more may be promised, the process stops and is restarted."""

    kind = "cloud_store"


class StoreBusy(GatewayError):
    """More is waiting than the store takes: ask again later. Nothing was changed."""

    kind = "cloud_store_busy"


class StoreFull(GatewayError):
    """No room on the disk. Nothing was changed; reading goes on."""

    kind = "cloud_store_full"


class Put(StrEnum):
    """What became of an envelope."""

    NEW = "new"
    KNOWN = "known"
    CONFLICT = "conflict"
    """The epoch exists with another envelope, which stays."""


class Receipt(NamedTuple):
    """What became of a batch. With ``missing_epochs`` nothing was stored."""

    stored: tuple[bytes, ...] = ()
    known: tuple[bytes, ...] = ()
    refused: tuple[tuple[bytes, str], ...] = ()
    """Record id and reason."""
    missing_epochs: tuple[bytes, ...] = ()


class StoredRecord(NamedTuple):
    """One sealed record with its place in the order."""

    cursor: int
    gateway: str
    """Common name of the certificate that sent it."""
    header: Header
    record: bytes


class Sight(NamedTuple):
    """What one reader may see."""

    kid: bytes
    """Thumbprint of the reader's sealing key (RFC 9679)."""
    lanes: frozenset[Lane]


class Page(NamedTuple):
    """Records in order. ``next`` is where to go on; None when nothing is left for now.

    A page may be short, even empty, and still have a ``next``: the store looks at a bounded number
    of records for each answer, however few of them the reader may see.
    """

    records: tuple[StoredRecord, ...]
    next: int | None


class Acknowledgement(NamedTuple):
    """Who took over an alarm. The first one stays."""

    cursor: int
    alarm: bytes
    """Id of the record that raised it."""
    name: str
    role: str
    at_ms: int


class Store(Protocol):
    """See the module. Any method raises StoreError, StoreBusy; a write also StoreFull."""

    async def put_epoch(self, envelope: Envelope) -> Put:
        """Keep a verified envelope."""
        ...

    async def epoch(self, epoch: bytes, sight: Sight) -> bytes | None:
        """The envelope as it was received, or None if there is none that the reader may see."""
        ...

    async def add_records(self, gateway: str, items: Sequence[tuple[Header, bytes]]) -> Receipt:
        """Keep a verified batch of the gateway with that name."""
        ...

    async def page(
        self, sight: Sight, *, after: int, limit: int, patient: bytes | None = None
    ) -> Page:
        """Visible records with a cursor above ``after``; ``limit`` is 1 to PAGE_RECORDS."""
        ...

    async def last_cursor(self) -> int:
        """The newest record's cursor, 0 in an empty store."""
        ...

    async def acknowledge(
        self, alarm: bytes, sight: Sight, *, name: str, role: str, at_ms: int
    ) -> Acknowledgement | None:
        """Acknowledge a visible emergency record; None if there is none. The first one stays."""
        ...

    async def acknowledgements(
        self, gateway: str, *, after: int, limit: int
    ) -> tuple[Acknowledgement, ...]:
        """Acknowledgements of this gateway's alarms, in order, above the cursor ``after``."""
        ...

    async def close(self) -> None:
        """Finish what is waiting, then let go of the database."""
        ...


class Opener(Protocol):
    """Opens the store at ``location``, what the address says after its scheme."""

    def __call__(
        self, location: str, *, folder: Path, on_failure: Callable[[Exception], None]
    ) -> Awaitable[Store]:
        """``folder`` is where a relative path starts.

        ``on_failure`` is called once, on the event loop, when the store cannot go on.
        """
        ...


stores: Registry[Opener] = Registry("cloud database")


def split_address(database: str) -> tuple[str, str]:
    """``"postgresql://host/db"`` -> ``("postgresql", "host/db")``; a plain path is SQLite."""
    scheme, separator, location = database.partition("://")
    return (scheme, location) if separator else ("sqlite", database)
