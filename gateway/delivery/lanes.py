"""What differs between the lanes, as a table, and how large the next batch is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.delivery.retry import Policy
from gateway.lane import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one lane is delivered."""

    rows: int
    """Entries of a batch."""

    size: int
    """Sealed bytes of a batch, but for a single larger entry."""

    retry: Policy
    check_every_s: float | None
    """Ask the sink for its health after so long without traffic: keeps the connection and its
    TLS session up, so that an alarm does not start with a handshake, and notices an outage before
    an alarm does. None: never."""

    hurry_s: float | None
    """A new entry cuts a wait after a failure short, down to so long after that failure: a store
    that is back is found by the next alarm, and one that is away is not hammered by a flood of
    them. A wait that the sink itself wished for is kept. None: never."""

    gather_s: float
    """After a batch less than half full, the next is leased so long after it: a batch costs as
    much as a hundred records. What comes to an idle lane goes at once. 0: never wait."""


PROFILES = {
    # Small batches and short waits: an alarm is worth a request of its own. No wait of it is longer
    # than two seconds, not even one that the sink wishes for (a wish is kept plus half a second).
    Lane.EMERGENCY: Profile(
        rows=64,
        size=128 << 10,
        retry=Policy(base_s=0.1, cap_s=2.0, retry_after_cap_s=1.5),
        check_every_s=10.0,
        hurry_s=0.2,
        gather_s=0.0,
    ),
    # Body under 1 MiB, what most servers take; half the cloud store's 1000 records a batch.
    Lane.ROUTINE: Profile(
        rows=500,
        size=512 << 10,
        retry=Policy(base_s=1.0, cap_s=60.0, retry_after_cap_s=3600.0),
        check_every_s=None,
        hurry_s=None,
        gather_s=0.05,
    ),
}


class BatchSize:
    """Halved when the sink finds a batch too large, grows slowly again with success.

    Slowly, because a batch too large is uploaded in vain.
    """

    def __init__(self, rows: int) -> None:
        self._most = rows
        self.rows = rows

    def halve(self, rows: int) -> None:
        """A batch of ``rows`` was too large."""
        self.rows = max(rows // 2, 1)

    def grow(self) -> None:
        """A batch was taken."""
        self.rows = min(self.rows + 1 + self.rows // 16, self._most)
