"""Technical alarms stand in a table of their own."""

from __future__ import annotations

from gateway.vitals.alarms import Alarm
from gateway.vitals.assessment import Priority
from gateway.vitals.technical import SILENCE, UNREADABLE, Technical


def alarm(device: str, rule: str = SILENCE, raised: float = 1.0) -> Alarm:
    return Alarm(device.encode(), "P", device, rule, Priority.TECHNICAL, "words", raised, None)


def test_one_alarm_of_each_device_and_rule() -> None:
    technical = Technical()
    assert technical.add(alarm("b")) == [alarm("b")]
    assert technical.add(alarm("b", raised=2.0)) == []
    assert technical.add(alarm("c")) == [alarm("c")]
    assert technical.add(alarm("b", UNREADABLE)) == [alarm("b", UNREADABLE)]
    assert len(technical) == len(technical.active()) == 3
    assert technical.resolve("b", SILENCE, 3.0) == [alarm("b")._replace(resolved=3.0)]
    assert technical.resolve("b", SILENCE, 3.0) == []
    assert technical.get("b", SILENCE) is None
    assert technical.get("b", UNREADABLE) is not None


def test_the_table_has_a_cap_and_the_oldest_makes_room() -> None:
    technical = Technical(max_active=2)
    technical.restore([alarm("c", raised=3.0), alarm("b", raised=2.0)])
    out, new = technical.add(alarm("d", raised=4.0))
    assert (out.device, out.resolved) == ("b", 4.0)
    assert (new.device, new.resolved) == ("d", None)
    assert [one.device for one in technical.active()] == ["c", "d"]
