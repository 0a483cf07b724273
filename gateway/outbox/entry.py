"""What the outbox holds: entries, envelopes, dead letters, and its own figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.lane import Lane


class Entry(NamedTuple):
    """One accepted message, sealed, on its way to the sink."""

    id: bytes
    """Record id, 16 bytes, time-ordered; the sink's idempotency key."""

    lane: Lane

    patient: bytes
    """Pseudonym, 16 bytes."""

    received_ms: int
    """UTC milliseconds at which the datagram came."""

    epoch: bytes
    """Id of the content key that sealed it, 16 bytes."""

    sealed: bytes
    """The record: a COSE_Encrypt0 message."""

    key: bytes | None
    """Identity of the message, 16 bytes, for telling a re-send after a reconnect or a restart.
    None: unique by its exchange."""


class Leased:
    """An entry that the pump holds until it settles it."""

    __slots__ = ("attempts", "entry", "number")

    def __init__(self, number: int, entry: Entry, attempts: int = 0) -> None:
        self.number = number
        """Place in the order of arrival. Never used twice."""

        self.entry = entry
        self.attempts = attempts
        """How often this entry was handed out before and came back, in this process."""


class StoredEnvelope(NamedTuple):
    """A key envelope as the outbox keeps it."""

    epoch: bytes
    created_ms: int
    message: bytes
    delivered: bool


class DeadLetter(NamedTuple):
    """An entry that the sink will never take, or that was found damaged."""

    number: int
    lane: Lane
    entry: Entry | None
    """None when its row is damaged."""

    reason: str
    """The sink's own words."""

    at_ms: int


@dataclass(slots=True)
class LaneStatus:
    """Figures of one lane, kept in memory: reading them costs no query."""

    rows: int = 0
    """Entries that wait or are being delivered."""

    size: int = 0
    """Their bytes, as counted against the quota."""

    oldest_ms: int | None = None
    """When the first of them was received (UTC ms), None when nothing waits."""

    delivered: int = 0
    """Entries settled as delivered since the outbox was made."""

    refused: int = 0
    """Entries turned away for want of room, in this process."""


@dataclass(slots=True)
class Status:
    """What ``outbox status``, the board and the metrics show."""

    lanes: dict[Lane, LaneStatus] = field(
        default_factory=lambda: {lane: LaneStatus() for lane in Lane}
    )
    dead: int = 0
    """Dead letters, damaged rows included."""

    damaged: int = 0
    """Rows found damaged since the outbox was made (checksum or unreadable page)."""

    lost: int = 0
    """Rows that the high-water mark promises and that were not found, since it was made."""

    last_number: int = 0
    size: int = 0
    """Bytes of everything that counts against the quota: entries, envelopes, dead letters."""

    max_bytes: int = 0
    reserve_bytes: int = 0
    notice: str = ""
    """What people must know about how it was opened; empty when all was well."""

    commits: int = 0
    """Transactions in this process."""
