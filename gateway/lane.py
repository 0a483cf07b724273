"""The two lanes of a record, what may wait and what may not, and who may read which."""

from __future__ import annotations

from enum import StrEnum


class Lane(StrEnum):
    """Decided by triage (or by the node itself, on ``/alarm``), kept for the record's life."""

    EMERGENCY = "emergency"
    ROUTINE = "routine"


LANES_OF_ROLE: dict[str, frozenset[Lane]] = {
    "patient": frozenset(Lane),
    "doctor": frozenset({Lane.ROUTINE}),
    "alarm-centre": frozenset({Lane.EMERGENCY}),
    "admin": frozenset(),
    "auditor": frozenset(),
}
"""Who may read which lane: for whom the gateway seals, and what the cloud store gives out unless
it is told otherwise."""
