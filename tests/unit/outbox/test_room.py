"""gateway.outbox.room"""

from __future__ import annotations

import pytest

from gateway.errors import OutboxFull
from gateway.lane import Lane
from gateway.outbox.room import MAX_QUEUED_BYTES, Room


def test_routine_stops_at_the_reserve_and_emergencies_at_the_end() -> None:
    room = Room(max_bytes=10_000, reserve_bytes=4_000)
    room.stored = 5_000
    room.check(Lane.ROUTINE, 800)
    with pytest.raises(OutboxFull) as refusal:
        room.check(Lane.ROUTINE, 1_000)
    assert refusal.value.retry_after_s > 0
    room.check(Lane.EMERGENCY, 4_800)
    with pytest.raises(OutboxFull):
        room.check(Lane.EMERGENCY, 5_000)
    assert room.refused == {Lane.ROUTINE: 1, Lane.EMERGENCY: 1}


def test_what_is_queued_counts_until_it_is_stored() -> None:
    room = Room(max_bytes=10_000, reserve_bytes=0)
    room.queue(9_500)
    with pytest.raises(OutboxFull):
        room.check(Lane.ROUTINE, 500)
    room.committed = 9_500
    room.check(Lane.ROUTINE, 500)
    room.stored = 9_500
    with pytest.raises(OutboxFull):
        room.check(Lane.ROUTINE, 500)


def test_a_small_disk_is_shared_like_the_quota() -> None:
    room = Room(max_bytes=1 << 30, reserve_bytes=10_000)
    room.disk_free = 12_000
    room.check(Lane.ROUTINE, 1_000)
    room.disk_free = 10_500
    with pytest.raises(OutboxFull):
        room.check(Lane.ROUTINE, 1_000)
    room.check(Lane.EMERGENCY, 1_000)


def test_a_slow_disk_holds_back_routine_only_and_shortly() -> None:
    room = Room(max_bytes=1 << 40, reserve_bytes=0)
    room.queue(MAX_QUEUED_BYTES + 1)
    with pytest.raises(OutboxFull) as refusal:
        room.check(Lane.ROUTINE, 1)
    assert refusal.value.retry_after_s <= 5
    room.check(Lane.EMERGENCY, 1)


def test_it_is_full_when_not_even_an_emergency_fits() -> None:
    room = Room(max_bytes=10_000, reserve_bytes=4_000)
    room.stored = 9_000
    assert not room.full()
    room.queue(900)
    assert room.full()
    room.committed = 900
    assert not room.full()
    room.disk_free = 0
    assert room.full()
