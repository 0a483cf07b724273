"""What one burst gives the outbox, and who waits for it to be on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio

    from gateway.coap.fastlane import Telemetry
    from gateway.cose.envelope import Envelope
    from gateway.dtls.association import Association
    from gateway.intake import Admitted
    from gateway.outbox.entry import Entry


class Waiting(NamedTuple):
    """An accepted message whose answer waits for the commit."""

    key: bytes | None
    association: Association | None
    telemetry: Telemetry | None
    stored: asyncio.Future[None] | None
    """Of a message that came by the aiocoap lane, instead of association and telemetry."""


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
