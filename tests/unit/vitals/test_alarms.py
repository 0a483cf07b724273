"""Emergency findings become alarms with a beginning and an end."""

from __future__ import annotations

from gateway.vitals.alarms import Alarm, Alarms
from gateway.vitals.assessment import Assessment, Finding, Priority

WELL = Assessment(Priority.ROUTINE, (), None)


def ill(*rules: str, priority: Priority = Priority.EMERGENCY) -> Assessment:
    return Assessment(
        priority, tuple(Finding(rule, priority, f"{rule}!", 1.0) for rule in rules), None
    )


def alarm(
    record: bytes, rule: str, raised: float, *, patient: str = "p", device: str = "b"
) -> Alarm:
    return Alarm(record, patient, device, rule, Priority.EMERGENCY, f"{rule}!", raised, None)


def test_an_alarm_is_raised_once_and_resolved_once() -> None:
    """By the first record with the finding and the first without."""
    alarms = Alarms()
    raised = alarm(b"1", "asystole", 10.0)
    assert alarms.update("p", "b", WELL, record_id=b"0", wall=9.0) == []
    assert alarms.update("p", "b", ill("asystole"), record_id=b"1", wall=10.0) == [raised]
    assert alarms.update("p", "b", ill("asystole"), record_id=b"2", wall=11.0) == []
    assert alarms.active() == [raised]
    resolved = raised._replace(resolved=12.0)
    assert alarms.update("p", "b", WELL, record_id=b"3", wall=12.0) == [resolved]
    assert alarms.active() == []
    assert alarms.update("p", "b", WELL, record_id=b"4", wall=13.0) == []
    again = alarm(b"5", "asystole", 14.0)
    assert alarms.update("p", "b", ill("asystole"), record_id=b"5", wall=14.0) == [again]


def test_only_emergencies_are_alarms() -> None:
    """Urgent findings are shown, not alarmed; one that falls to urgent resolves its alarm."""
    alarms = Alarms()
    urgent = ill("news2", priority=Priority.URGENT)
    assert alarms.update("p", "b", urgent, record_id=b"0", wall=1.0) == []
    alarms.update("p", "b", ill("news2"), record_id=b"1", wall=2.0)
    (resolved,) = alarms.update("p", "b", urgent, record_id=b"2", wall=3.0)
    assert (resolved.id, resolved.resolved) == (b"1", 3.0)


def test_rules_and_patients_have_alarms_of_their_own() -> None:
    """One record can raise several; each has a key of its own."""
    alarms = Alarms()
    both = alarms.update("p", "b", ill("asystole", "verdict"), record_id=b"1", wall=1.0)
    assert both == [alarm(b"1", "asystole", 1.0), alarm(b"1", "verdict", 1.0)]
    assert len({one.key for one in both}) == 2
    alarms.update("q", "c", ill("asystole"), record_id=b"2", wall=2.0)
    resolved, raised = alarms.update("p", "b", ill("asystole", "news2"), record_id=b"3", wall=3.0)
    assert (resolved.rule, resolved.resolved, raised.rule) == ("verdict", 3.0, "news2")
    assert [(one.patient, one.rule) for one in alarms.active()] == [
        ("p", "asystole"),
        ("q", "asystole"),
        ("p", "news2"),
    ]


def test_two_devices_that_find_the_same_raise_one_alarm() -> None:
    """It names the device that raised it."""
    alarms = Alarms()
    alarms.update("p", "one", ill("news2"), record_id=b"1", wall=1.0)
    assert alarms.update("p", "two", ill("news2"), record_id=b"2", wall=2.0) == []
    assert [one.device for one in alarms.active()] == ["one"]


def test_active_alarms_survive_a_restart() -> None:
    """And are resolved by what comes after it."""
    old = alarm(b"1", "asystole", 1.0)
    alarms = Alarms()
    alarms.restore([old, alarm(b"0", "verdict", 0.5)._replace(resolved=0.9)])
    assert alarms.active() == [old]
    assert alarms.update("p", "b", WELL, record_id=b"2", wall=2.0) == [old._replace(resolved=2.0)]


def test_the_table_has_a_cap() -> None:
    """The oldest alarm makes room, and the new one is raised all the same."""
    alarms = Alarms(max_active=2)
    for n, patient in enumerate("abc"):
        changed = alarms.update(patient, "d", ill("asystole"), record_id=b"%d" % n, wall=float(n))
        assert [(one.patient, one.resolved) for one in changed if one.resolved is None] == [
            (patient, None)
        ]
    # and the one pushed out is told as over, so that it does not come back after a restart
    assert [(one.patient, one.resolved) for one in changed] == [("a", 2.0), ("c", None)]
    assert [one.patient for one in alarms.active()] == ["b", "c"]
    alarms.restore(alarms.active())
    assert len(alarms.active()) == 2
