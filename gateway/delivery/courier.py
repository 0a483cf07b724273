"""The courier: key envelopes go before the first record that needs them.

What the sink has is remembered, so that a batch costs no question in the usual case. A sink may
lose envelopes all the same (restored from a backup, say); then it names those it misses, and they
are sent again, also when they count as delivered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from gateway.errors import PermanentDeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from gateway.lane import Lane
    from gateway.outbox.entry import StoredEnvelope
    from gateway.outbox.writer import Writer
    from gateway.sinks import Sink

_KNOWN_EPOCHS = 4096
_AT_ONCE = 8
"""A ward's epochs turn over together: a hundred envelopes one by one would hold up the records."""

_GONE = "the sink misses this record's key envelope, and it is not kept here any more"


class Courier:
    """One lane's."""

    def __init__(self, lane: Lane, writer: Writer, sink: Sink) -> None:
        self._lane = lane
        self._writer = writer
        self._sink = sink
        self._known: OrderedDict[bytes, None] = OrderedDict()
        """Epochs whose envelope the sink has."""

        self._missed: set[bytes] = set()
        """Epochs that the sink said it misses, since it last took a batch."""

    async def send(self, epochs: AbstractSet[bytes]) -> dict[bytes, str]:
        """Deliver the envelopes of these epochs, as far as the sink may not have them. Returns
        those that cannot be delivered ever, with the reason.

        Raises:
            DeliveryError: not now.
        """
        needed = epochs - self._known.keys()
        if not needed:
            return {}
        stored = await self._writer.envelopes(self._lane, sorted(needed))
        gone = needed - {envelope.epoch for envelope in stored}
        refused = dict.fromkeys(gone & self._missed, _GONE)
        to_send = [e for e in stored if not e.delivered or e.epoch in self._missed]
        for at in range(0, len(to_send), _AT_ONCE):
            refused |= await self._send(to_send[at : at + _AT_ONCE])
        # One that is not kept was delivered long ago. If the sink misses it, it will say so.
        self._remember(needed - refused.keys())
        return refused

    async def _send(self, envelopes: Sequence[StoredEnvelope]) -> dict[bytes, str]:
        results = await asyncio.gather(
            *(self._sink.deliver_envelope(e.epoch, e.message) for e in envelopes),
            return_exceptions=True,
        )
        refused: dict[bytes, str] = {}
        delivered: list[bytes] = []
        errors: list[BaseException] = []
        for envelope, result in zip(envelopes, results, strict=True):
            if result is None:
                delivered.append(envelope.epoch)
            elif isinstance(result, PermanentDeliveryError):
                refused[envelope.epoch] = f"its key envelope is refused: {result}"
            else:
                errors.append(result)
        if delivered:
            self._remember(delivered)
            self._writer.envelopes_delivered(self._lane, delivered)
        if errors:
            raise errors[0]
        return refused

    def sink_misses(self, epochs: AbstractSet[bytes]) -> bool:
        """Whether sending them again makes sense at once: not if they were just sent."""
        news = epochs - self._missed
        for epoch in epochs:
            self._known.pop(epoch, None)
        self._missed |= epochs
        return bool(news)

    def batch_taken(self) -> None:
        """The sink has taken records: it has their envelopes."""
        self._missed.clear()

    def _remember(self, epochs: Iterable[bytes]) -> None:
        for epoch in epochs:
            self._known[epoch] = None
        while len(self._known) > _KNOWN_EPOCHS:
            self._known.popitem(last=False)
