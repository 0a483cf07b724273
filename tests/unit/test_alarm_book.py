"""Alarms that survive a restart, sealed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.alarm_book import AlarmBook
from gateway.errors import OutboxCorrupt
from gateway.intake import Judged
from gateway.vitals.alarms import Alarms
from gateway.vitals.assessment import Assessment, Finding, Priority

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
    made.restore(kept.stored.items())
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
