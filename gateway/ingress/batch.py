"""What one burst gives the outbox, who waits for it to be on disk, and what is counted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from gateway.errors import GatewayError
from gateway.intake import Admitted, Repeated

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Sequence

    from gateway.coap.fastlane import Telemetry
    from gateway.cose.envelope import Envelope
    from gateway.dtls.association import Association
    from gateway.intake import Offer, Outcome
    from gateway.outbox.entry import Entry

RETRY_AFTER_STOP_S: Final = 3.0
"""Max-Age of 5.03 while stopping: about what a restart takes."""


class Waiting(NamedTuple):
    """An accepted message whose answer waits for the commit."""

    key: bytes | None
    association: Association | None
    telemetry: Telemetry | None
    stored: asyncio.Future[Any] | None
    """Of a message that came by the aiocoap lane, instead of association and telemetry."""


class Handed:
    """The outcome of an offer that another worker judges and stores: who waits is told later."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: Waiting | None = None


class Admitting(Protocol):
    """An intake: this process's, or one that hands on what belongs to another worker."""

    def admit(
        self, offers: Sequence[Offer], *, now: float, wall: float
    ) -> Sequence[Outcome | Handed]:
        """See :meth:`gateway.intake.Intake.admit`."""
        ...

    def stored(self, key: bytes) -> None:
        """See :meth:`gateway.intake.Intake.stored`."""
        ...

    def refused(self, key: bytes) -> None:
        """See :meth:`gateway.intake.Intake.refused`."""
        ...


def tally(counts: Counter[str], outcomes: Sequence[Outcome | Handed]) -> None:
    """Count messages by what became of them; those handed on are counted where they go."""
    admitted = 0
    for outcome in outcomes:
        if isinstance(outcome, Admitted):
            admitted += 1
        elif isinstance(outcome, Repeated):
            counts["repeated"] += 1
        elif isinstance(outcome, GatewayError):
            counts[outcome.kind] += 1
    counts["admitted"] += admitted


class Batch:
    """Entries of one lane, for one submission."""

    __slots__ = ("entries", "envelopes", "waiting")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.envelopes: list[Envelope] = []
        self.waiting: list[Waiting] = []

    def add(self, admitted: Admitted, waiting: Waiting) -> None:
        """An admitted message and who is to be answered for it."""
        self.entries.append(admitted.entry)
        self.waiting.append(waiting)
        if admitted.envelope is not None:
            self.envelopes.append(admitted.envelope)
