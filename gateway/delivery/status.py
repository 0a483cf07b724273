"""What a delivery last did, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PumpStatus:
    """Of one lane."""

    state: str = "idle"
    """``idle``, ``delivering``, ``backing off`` or ``stopped``."""

    last_success: float | None = None
    """UTC seconds of the last delivery or of the last good health."""

    last_failure: float | None = None
    failure: str = ""
    """Words of the last failure, empty once the sink was good again."""

    kind: str = ""
    """Kind of that failure; ``not_welcome`` needs a person."""

    failures: int = 0
    """Failed tries in a row."""

    next_try: float | None = None
    """UTC seconds of the next try while backing off."""

    parked: int = 0
    """Entries that the sink breaks over and that are tried again behind the others."""

    delivered: int = 0
    refused: int = 0
    """Entries delivered and made dead letters in this process."""
