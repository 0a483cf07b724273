"""What triage says of one pack: priority, findings, early warning score."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from gateway.lane import Lane


class Priority(StrEnum):
    """How soon a person must look. Members stand from the most to the least urgent."""

    EMERGENCY = "emergency"
    URGENT = "urgent"
    ADVISORY = "advisory"
    TECHNICAL = "technical"
    ROUTINE = "routine"

    @property
    def rank(self) -> int:
        """0 is the most urgent: the smallest rank of several findings counts."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


class Finding(NamedTuple):
    """A condition that holds, or that this pack completed."""

    rule: str
    priority: Priority
    detail: str
    """For people: what was seen, with its numbers."""

    since: float
    """UTC seconds when the condition began."""


class News2(NamedTuple):
    """National Early Warning Score 2, possibly partial."""

    score: int
    red: bool
    """One item alone scores 3."""

    missing: tuple[str, ...]
    """SenML names of the items that were not there: each can only raise the score."""


class Assessment(NamedTuple):
    """The judgement of one pack in the light of what went before."""

    priority: Priority
    findings: tuple[Finding, ...]
    news2: News2 | None
    """None if no scored item is known."""

    @property
    def lane(self) -> Lane:
        """Only an emergency takes the emergency lane."""
        return Lane.EMERGENCY if self.priority is Priority.EMERGENCY else Lane.ROUTINE


def to_map(assessment: Assessment) -> dict[str, object]:
    """Plain values for JSON and CBOR: ``priority``, ``findings``, ``news2``."""
    news2 = assessment.news2
    return {
        "priority": str(assessment.priority),
        "findings": [
            {
                "rule": finding.rule,
                "priority": str(finding.priority),
                "detail": finding.detail,
                "since": finding.since,
            }
            for finding in assessment.findings
        ],
        "news2": None
        if news2 is None
        else {"score": news2.score, "red": news2.red, "missing": list(news2.missing)},
    }
