"""The two lanes of a record: what may wait and what may not."""

from __future__ import annotations

from enum import StrEnum


class Lane(StrEnum):
    """Decided by triage (or by the node itself, on ``/alarm``), kept for the record's life."""

    EMERGENCY = "emergency"
    ROUTINE = "routine"
