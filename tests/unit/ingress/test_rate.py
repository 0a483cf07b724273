"""How fast a device may send."""

from __future__ import annotations

import pytest

from gateway.ingress.rate import Rates


def taken(rates: Rates, device: str, now: float, tries: int) -> int:
    """How many of so many messages at one moment are let through."""
    return sum(not rates.over(device, now) for _ in range(tries))


def test_a_silent_device_may_catch_up_by_two_seconds() -> None:
    rates = Rates(50)
    assert taken(rates, "b1", 1000.0, 500) == 100
    assert taken(rates, "b1", 9000.0, 500) == 100


@pytest.mark.parametrize("per_s", [0.5, 1.0, 7.5, 50.0])
def test_over_a_minute_a_device_gets_its_rate(per_s: float) -> None:
    """Whatever it tries: a hundred times a second here."""
    rates = Rates(per_s)
    taken(rates, "b1", 0.0, 1000)
    got = sum(not rates.over("b1", tick / 100) for tick in range(1, 6001))
    assert got == pytest.approx(per_s * 60, abs=1)


def test_below_its_rate_nothing_is_refused() -> None:
    rates = Rates(10)
    assert not any(rates.over("b1", number / 10) for number in range(10_000))


def test_one_device_does_not_use_up_another_ones() -> None:
    rates = Rates(5)
    assert taken(rates, "b1", 0.0, 100) == 10
    assert taken(rates, "b2", 0.0, 100) == 10


def test_a_refused_try_costs_nothing() -> None:
    rates = Rates(1)
    taken(rates, "b1", 0.0, 1000)
    assert taken(rates, "b1", 1.0, 1000) == 1


def test_less_than_one_a_second_still_lets_one_through() -> None:
    rates = Rates(0.1)
    assert taken(rates, "b1", 0.0, 10) == 1
    assert taken(rates, "b1", 9.9, 10) == 0
    assert taken(rates, "b1", 10.1, 10) == 1


def test_zero_is_no_limit() -> None:
    assert taken(Rates(0), "b1", 0.0, 100_000) == 100_000


def test_a_new_rate_counts_from_now_on() -> None:
    """The gateway sets it when it reloads."""
    rates = Rates(5)
    assert taken(rates, "b1", 0.0, 100) == 10
    rates.per_s = 10
    assert taken(rates, "b1", 1.0, 100) == 10
    rates.per_s = 0
    assert taken(rates, "b1", 1.0, 100) == 100


def test_more_devices_than_are_remembered_are_let_through() -> None:
    """Forgetting one fills its bucket: never is somebody refused for another's sake."""
    rates = Rates(1)
    assert taken(rates, "first", 0.0, 10) == 2
    assert not any(rates.over(f"b{number}", 0.0) for number in range(8191))
    assert rates.over("first", 0.0)  # still remembered
    assert not rates.over("one more", 0.0)
    assert not rates.over("first", 0.0)  # forgotten
    assert rates.over("one more", 0.0) is False
    assert rates.over("one more", 0.0)
