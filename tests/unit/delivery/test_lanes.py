"""gateway.delivery.lanes"""

from __future__ import annotations

import pytest

from gateway.cose.record import MAX_BATCH_RECORDS
from gateway.delivery.lanes import PROFILES, BatchSize
from gateway.delivery.retry import wait_s
from gateway.lane import Lane


@pytest.mark.parametrize("lane", Lane)
def test_a_batch_fits_what_the_store_takes(lane: Lane) -> None:
    assert PROFILES[lane].rows <= MAX_BATCH_RECORDS
    assert PROFILES[lane].size < 1 << 20


def test_an_emergency_never_waits_long() -> None:
    policy = PROFILES[Lane.EMERGENCY].retry
    waits = [
        wait_s(policy, failures, retry_after_s=wish, random=lambda n: b"\xff" * n)
        for failures in (1, 2, 100)
        for wish in (None, 0.0, 1.0, 30.0, 1e9)
    ]
    assert max(waits) <= 2


def test_the_size_halves_at_once_and_grows_slowly() -> None:
    size = BatchSize(500)
    size.halve(500)
    assert size.rows == 250
    size.grow()
    assert 250 < size.rows < 300
    for _ in range(100):
        size.grow()
    assert size.rows == 500


def test_there_is_always_one_row() -> None:
    size = BatchSize(500)
    size.halve(1)
    assert size.rows == 1
    size.grow()
    assert size.rows > 1
