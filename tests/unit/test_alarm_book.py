"""Alarms that survive a restart, sealed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.alarm_book import HOLD_S, AlarmBook
from gateway.errors import OutboxCorrupt
from gateway.intake import Judged
from gateway.vitals.alarms import Alarms
from gateway.vitals.assessment import Assessment, Finding, Priority
from gateway.vitals.technical import Technical

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = b"k" * 32
WALL = 1_800_000_000.5
DETAIL = "no beat for 4.2 s"


class Kept:
    """What the outbox would hold."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.calls = 0

    def keep(self, changed: Sequence[tuple[bytes, bytes]], gone: Sequence[bytes]) -> None:
        self.calls += 1
        self.stored.update(changed)
        for name in gone:
            del self.stored[name]


def book(kept: Kept, key: bytes = KEY) -> AlarmBook:
    made = AlarmBook(key, os.urandom, kept.keep, Alarms())
    made.restore(kept.stored.items(), 0.0)
    return made


def judged(
    *rules: str, number: int = 1, patient: str = "Mr Secret", device: str = "bracelet-1"
) -> Judged:
    findings = tuple(Finding(rule, Priority.EMERGENCY, DETAIL, WALL - 4) for rule in rules)
    priority = Priority.EMERGENCY if rules else Priority.ROUTINE
    return Judged(number.to_bytes(16, "big"), patient, device, Assessment(priority, findings, None))


def test_an_alarm_survives_a_restart() -> None:
    kept = Kept()
    first = book(kept)
    first.judged(judged("asystole", "verdict"), WALL)
    (one, two) = book(kept).alarms.active()
    assert [one, two] == first.alarms.active()
    assert (one.patient, one.device, one.detail) == ("Mr Secret", "bracelet-1", DETAIL)
    assert one.priority is Priority.EMERGENCY
    assert {one.rule, two.rule} == {"asystole", "verdict"}
    assert one.raised == WALL


def test_an_alarm_that_is_over_is_forgotten() -> None:
    kept = Kept()
    first = book(kept)
    first.judged(judged("asystole", "verdict"), WALL)
    first.judged(judged("verdict", number=2), WALL)
    assert [one.rule for one in book(kept).alarms.active()] == ["verdict"]
    first.judged(judged(number=3), WALL)
    assert kept.stored == {}
    assert book(kept).alarms.active() == []


def test_after_a_restart_an_alarm_is_not_raised_again_and_can_end() -> None:
    kept = Kept()
    book(kept).judged(judged("asystole"), WALL)
    again = book(kept)
    calls = kept.calls
    again.judged(judged("asystole", number=2), WALL)
    assert kept.calls == calls
    again.judged(judged(number=3), WALL)
    assert kept.stored == {}


def test_nothing_is_written_while_nothing_changes() -> None:
    kept = Kept()
    one = book(kept)
    one.judged(judged(), WALL)
    assert kept.calls == 0


def test_nothing_of_a_patient_reaches_the_disk_in_the_clear() -> None:
    kept = Kept()
    one = book(kept)
    one.judged(judged("asystole"), WALL)
    one.judged(judged("asystole", number=2, patient="Mrs Other", device="bracelet-2"), WALL)
    everything = b"".join(name + sealed for name, sealed in kept.stored.items())
    for word in (b"Secret", b"Other", b"bracelet", b"beat"):
        assert word not in everything
    assert len({sealed[:12] for sealed in kept.stored.values()}) == 2  # a nonce each


@pytest.mark.parametrize("how", ["key", "name", "bytes", "short", "empty"])
def test_what_cannot_be_opened_is_passed_over_with_a_word(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway starts, and the other alarms are there."""
    kept = Kept()
    first = book(kept)
    first.judged(judged("asystole"), WALL)
    first.judged(judged("verdict", number=2, patient="Mrs Other", device="bracelet-2"), WALL)
    (name, sealed), *_ = kept.stored.items()
    if how == "key":
        assert book(kept, b"x" * 32).alarms.active() == []
    else:
        del kept.stored[name]
        damaged = {
            "name": (b"x" + name[1:], sealed),
            "bytes": (name, sealed[:-1] + bytes([sealed[-1] ^ 1])),
            "short": (name, sealed[:20]),
            "empty": (name, b""),
        }[how]
        kept.stored.update([damaged])
        assert [one.rule for one in book(kept).alarms.active()] == ["verdict"]
    assert "cannot be opened" in caplog.text


def test_the_log_has_the_device_and_no_patient(caplog: pytest.LogCaptureFixture) -> None:
    one = book(Kept())
    one.judged(judged("asystole"), WALL)
    one.judged(judged(number=2), WALL)
    assert [record.getMessage() for record in caplog.records] == [
        "alarm raised: rule asystole, device bracelet-1",
        "alarm resolved: rule asystole, device bracelet-1",
    ]


def test_an_alarm_that_cannot_be_stored_is_there_all_the_same() -> None:
    def broken(changed: object, gone: object) -> None:
        raise OutboxCorrupt("the disk is gone")

    one = AlarmBook(KEY, os.urandom, broken, Alarms())
    one.judged(judged("asystole"), WALL)
    assert [alarm.rule for alarm in one.alarms.active()] == ["asystole"]


def test_an_alarm_that_had_to_make_room_does_not_come_back() -> None:
    kept = Kept()
    one = AlarmBook(KEY, os.urandom, kept.keep, Alarms(max_active=1))
    one.judged(judged("asystole"), WALL)
    one.judged(judged("asystole", number=2, patient="Mrs Other"), WALL + 1)
    assert [alarm.patient for alarm in book(kept).alarms.active()] == ["Mrs Other"]


def heard(one: AlarmBook, now: float, device: str = "bracelet-1", patient: str = "P") -> None:
    one.heard(device, patient, "2026", now, WALL + now)


def test_a_silent_device_is_an_alarm_until_it_is_heard() -> None:
    kept = Kept()
    one = book(kept)
    heard(one, 0.0)
    one.sweep(0.0, WALL)
    for number in range(1, 140):
        one.sweep(float(number), WALL + number)
    [alarm] = one.active()
    assert (alarm.rule, alarm.priority, alarm.device) == (
        "silence",
        Priority.TECHNICAL,
        "bracelet-1",
    )
    assert one.listed()[0]["priority"] == "technical"
    heard(one, 140.0)
    assert one.active() == []
    assert [one.technical.active(), len(kept.stored)] == [[], 1]


def test_two_hundred_silent_devices_are_one_write() -> None:
    kept = Kept()
    one = book(kept)
    for number in range(200):
        heard(one, 0.0, f"b{number}")
    calls = kept.calls
    for second in range(140):
        one.sweep(float(second), WALL)
    assert len(one.active()) == 200
    assert kept.calls == calls + 1


def test_who_is_watched_and_who_was_silent_survives_a_restart() -> None:
    """With what was on disk after the first message of each: nothing more is asked of a kill."""
    kept = Kept()
    first = book(kept)
    heard(first, 0.0)
    heard(first, 0.0, "bracelet-2")
    for second in range(130):
        first.sweep(float(second), WALL)
        if second % 10 == 0:
            heard(first, float(second), "bracelet-2")
    assert [alarm.device for alarm in first.active()] == ["bracelet-1"]
    again = book(kept)
    assert again.active() == first.active()
    for second in range(140):
        again.sweep(float(second), WALL)
    assert sorted(alarm.device for alarm in again.active()) == ["bracelet-1", "bracelet-2"]
    for device in ("bracelet-1", "bracelet-2"):
        heard(again, 141.0, device)
    assert again.active() == []


def test_a_device_that_left_the_roster_is_neither_watched_nor_alarmed() -> None:
    kept = Kept()
    one = book(kept)
    heard(one, 0.0)
    for second in range(140):
        one.sweep(float(second), WALL)
    one.refused("bracelet-1", "P", "nonsense", WALL)
    assert len(one.active()) == 2
    one.keep_only(lambda device, patient, added: False, WALL)
    assert one.active() == []
    assert kept.stored == {}


def test_the_watch_reaches_the_disk_sealed() -> None:
    kept = Kept()
    heard(book(kept), 0.0, patient="Mr Secret")
    everything = b"".join(name + sealed for name, sealed in kept.stored.items())
    assert everything
    assert b"Secret" not in everything
    assert b"bracelet" not in everything


def test_what_cannot_be_understood_is_a_technical_alarm_until_the_next_sound_pack() -> None:
    kept = Kept()
    one = book(kept)
    for _ in range(3):
        one.refused("bracelet-1", "P", "hr: send a number", WALL)
    [alarm] = one.active()
    assert (alarm.rule, alarm.priority) == ("unreadable", Priority.TECHNICAL)
    assert "send a number" in alarm.detail
    assert kept.calls == 1
    assert book(kept).active() == one.active()
    one.judged(judged(device="bracelet-2"), WALL + HOLD_S)
    one.judged(judged(), WALL + HOLD_S - 1)
    assert len(one.active()) == 1
    one.judged(judged(), WALL + HOLD_S)
    assert one.active() == []
    assert kept.stored == {}


def test_a_date_that_is_set_back_does_not_hold_an_alarm() -> None:
    one = book(Kept())
    one.refused("bracelet-1", "P", "hr: send a number", WALL + 1e8)
    one.judged(judged(), WALL)
    assert not one.active()


def test_a_device_of_whose_packs_some_are_refused_is_one_alarm() -> None:
    """Neither the disk nor the log hears of each."""
    kept = Kept()
    one = book(kept)
    for number in range(100):
        one.refused("bracelet-1", "P", "hr: send a number", WALL + number)
        one.judged(judged(), WALL + number)
    assert kept.calls == 1


def test_an_emergency_that_the_node_has_sealed_is_an_alarm() -> None:
    """It says nothing of the others, and ends with the next message that is no emergency."""
    one = book(Kept())
    one.judged(judged("asystole", patient="P"), WALL)
    one.sealed(b"s" * 16, "P", "bracelet-1", WALL, declared=True)
    one.sealed(b"t" * 16, "P", "bracelet-1", WALL, declared=True)
    assert [alarm.rule for alarm in one.active()] == ["asystole", "declared_sealed"]
    assert one.active()[1].priority is Priority.EMERGENCY
    one.sealed(b"u" * 16, "P", "bracelet-1", WALL, declared=False)
    assert [alarm.rule for alarm in one.active()] == ["asystole"]
    one.sealed(b"v" * 16, "P", "bracelet-1", WALL, declared=True)
    one.judged(judged(patient="P"), WALL)
    assert one.active() == []


def test_technical_alarms_and_emergencies_do_not_push_each_other_out() -> None:
    one = AlarmBook(
        KEY, os.urandom, Kept().keep, Alarms(max_active=2), technical=Technical(max_active=2)
    )
    for number in range(2):
        one.judged(judged("asystole", number=number, patient=f"P{number}"), WALL)
    for number in range(2):
        one.refused(f"b{number}", "Q", "nonsense", WALL)
    assert len(one.active()) == 4
