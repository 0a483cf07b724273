"""The plain form of an assessment, and its lane."""

from __future__ import annotations

import pytest

from gateway.lane import Lane
from gateway.vitals.assessment import Assessment, Finding, News2, Priority, to_map


@pytest.mark.parametrize("priority", Priority)
def test_only_an_emergency_takes_the_emergency_lane(priority: Priority) -> None:
    """Urgent findings go with the routine."""
    lane = Assessment(priority, (), None).lane
    assert lane is (Lane.EMERGENCY if priority == "emergency" else Lane.ROUTINE)


def test_priorities_are_ordered() -> None:
    """Text would sort them by their letters."""
    assert sorted(sorted(Priority), key=lambda priority: priority.rank) == [
        "emergency",
        "urgent",
        "advisory",
        "technical",
        "routine",
    ]


def test_the_plain_form_is_the_contracts() -> None:
    """Plain types only, exactly: JSON and CBOR writers take no subclasses."""
    finding = Finding("asystole", Priority.EMERGENCY, "no heartbeat for 4.2 s", 1.5)
    plain = to_map(Assessment(Priority.EMERGENCY, (finding,), News2(3, True, ("o2",))))
    assert plain == {
        "priority": "emergency",
        "findings": [
            {
                "rule": "asystole",
                "priority": "emergency",
                "detail": "no heartbeat for 4.2 s",
                "since": 1.5,
            }
        ],
        "news2": {"score": 3, "red": True, "missing": ["o2"]},
    }
    assert type(plain["priority"]) is str
    assert to_map(Assessment(Priority.ROUTINE, (), None)) == {
        "priority": "routine",
        "findings": [],
        "news2": None,
    }
