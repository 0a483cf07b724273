"""gateway.delivery.breaker"""

from __future__ import annotations

from gateway.delivery.breaker import OPENS_AFTER, Breaker, State


def test_a_few_failures_are_no_outage() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER - 1):
        breaker.failed(10.0)
    assert breaker.state(0.0) is State.CLOSED


def test_it_opens_tries_carefully_and_opens_again() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.failed(10.0)
    assert breaker.state(9.9) is State.OPEN
    assert breaker.state(10.0) is State.HALF_OPEN
    breaker.failed(30.0)
    assert breaker.state(10.0) is State.OPEN
    assert breaker.failures == OPENS_AFTER + 1


def test_one_success_closes_it() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.failed(10.0)
    breaker.succeeded()
    assert breaker.state(0.0) is State.CLOSED
    assert breaker.failures == 0
