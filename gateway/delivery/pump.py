"""The pump: one task a lane, from lease to settlement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.lane import Lane
    from gateway.outbox.entry import Entry
    from gateway.outbox.writer import Writer
    from gateway.sinks import Sink


@dataclass(slots=True)
class PumpStatus:
    """What one lane's delivery last did, for people."""

    state: str = "idle"
    """``idle``, ``delivering``, ``backing off`` or ``stopped``."""

    last_success: float | None = None
    """UTC seconds of the last delivery."""

    last_failure: float | None = None
    failure: str = ""
    """Words of the last failure, empty once a delivery succeeded after it."""

    failures: int = 0
    """Failed tries in a row."""

    next_try_s: float = 0.0
    """Seconds from now until the next try, 0 when none is due."""

    delivered: int = 0
    refused: int = 0
    """Entries delivered and made dead letters in this process."""


class Pump:
    """Delivers one lane. Give each lane a pump and a sink of its own."""

    def __init__(
        self,
        lane: Lane,
        writer: Writer,
        sink: Sink,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        on_delivered: Callable[[Sequence[Entry], float], None],
    ) -> None:
        """``on_delivered(entries, wall)``: called in the event loop when the sink has confirmed
        entries, before they are settled."""

    async def run(self) -> None:
        """Deliver until :meth:`stop`. Ends early only with an error that is a bug."""
        raise NotImplementedError

    async def stop(self, grace_s: float) -> None:
        """Let the delivery in flight finish for up to ``grace_s``, then end :meth:`run`. What was
        not confirmed stays in the outbox."""
        raise NotImplementedError

    def status(self) -> PumpStatus:
        """A copy."""
        raise NotImplementedError
