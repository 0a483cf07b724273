"""Emergencies that do not reach the cloud store raise an alarm, which only a delivery ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gateway.alarm_book import AlarmBook
from gateway.delivery.undelivered import AGAIN_S, Undelivered
from gateway.lane import Lane
from gateway.outbox.entry import LaneStatus, Status

if TYPE_CHECKING:
    import pytest

SWEEP_S = 0.25


class Lanes:
    """What the outbox and the emergency lane's pump say, swept on one clock."""

    def __init__(self, stored: dict[bytes, bytes] | None = None, delivered: int = 0) -> None:
        self.now = 100.0
        self.stored = {} if stored is None else stored
        self.waiting, self.delivered, self.refused, self.failure = 0, delivered, 0, ""
        self.book = AlarmBook(bytes(32), os.urandom, self._keep)
        self.book.restore(list(self.stored.items()), self.now)
        self.undelivered = Undelivered("gateway", self.book, os.urandom)

    def _keep(self, kept: Any, gone: Any) -> None:
        self.stored.update(kept)
        for name in gone:
            self.stored.pop(name)

    def alarmed(self, seconds: float) -> float | None:
        """Sweep for so long; after how many seconds there was an alarm."""
        start, found = self.now, None
        while self.now < start + seconds:
            status = Status(max_bytes=1, reserve_bytes=0)
            status.lanes[Lane.EMERGENCY] = LaneStatus(
                rows=self.waiting, size=0, oldest_ms=None, delivered=self.delivered, refused=0
            )
            pump = {"failure": self.failure, "refused": self.refused}
            self.undelivered.sweep(status, pump, self.now, self.now)
            if found is None and self.book.active():
                found = self.now - start
            self.now += SWEEP_S
        return found


def test_an_emergency_that_cannot_be_delivered_is_an_alarm_within_a_second() -> None:
    lanes = Lanes()
    lanes.failure = "connection refused"
    assert lanes.alarmed(5.0) is None  # nothing waits
    lanes.waiting = 1
    assert (lanes.alarmed(5.0) or 9) + SWEEP_S <= 1.0
    [alarm] = lanes.book.active()
    assert (alarm.rule, alarm.device, str(alarm.priority)) == (
        "undeliverable",
        "gateway",
        "technical",
    )
    assert "connection refused" in alarm.detail


def test_a_store_that_never_answers_is_noticed_as_soon() -> None:
    lanes = Lanes()
    lanes.waiting = 1
    assert (lanes.alarmed(5.0) or 9) + SWEEP_S <= 1.0


def test_a_store_that_takes_them_one_by_one_is_none() -> None:
    lanes = Lanes()
    lanes.waiting = 5
    for _ in range(20):
        lanes.delivered += 1
        assert lanes.alarmed(0.5) is None


def test_only_a_delivery_ends_it() -> None:
    lanes = Lanes()
    lanes.waiting, lanes.failure = 2, "away"
    lanes.alarmed(1.0)
    lanes.failure = ""
    assert lanes.alarmed(1.0) is not None
    lanes.waiting, lanes.delivered = 1, 1
    assert lanes.alarmed(1.0) is not None
    lanes.waiting, lanes.delivered = 0, 2
    lanes.alarmed(SWEEP_S)
    assert lanes.book.active() == []
    assert lanes.stored == {}


def test_one_that_is_refused_for_good_is_an_alarm_too() -> None:
    """A dead letter is not a delivery."""
    lanes = Lanes()
    lanes.refused = 1
    assert lanes.alarmed(1.0) is not None
    lanes.delivered = 1
    lanes.alarmed(SWEEP_S)
    assert lanes.book.active() == []


def test_a_restart_does_not_end_it() -> None:
    lanes = Lanes(delivered=7)
    lanes.waiting, lanes.failure = 1, "away"
    lanes.alarmed(2.0)
    again = Lanes(lanes.stored, delivered=7)
    assert again.alarmed(3.0) is not None
    again.delivered = 8
    again.alarmed(SWEEP_S)
    assert again.book.active() == []


def test_it_is_said_again_every_minute(caplog: pytest.LogCaptureFixture) -> None:
    lanes = Lanes()
    lanes.waiting, lanes.failure = 3, "away"
    lanes.alarmed(3 * AGAIN_S + 5)
    said = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(said) == 3
    assert "waiting: 3, refused: 0; away" in said[0].getMessage()
