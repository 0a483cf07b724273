"""gateway.delivery.retry"""

from __future__ import annotations

from random import Random

import pytest

from gateway.delivery.retry import Policy, wait_s

POLICY = Policy(base_s=1.0, cap_s=60.0, retry_after_cap_s=600.0)


def top(n: int) -> bytes:
    return b"\xff" * n


def zero(n: int) -> bytes:
    return bytes(n)


@pytest.mark.parametrize(("failures", "most"), [(1, 1), (2, 2), (5, 16), (7, 60), (10**6, 60)])
def test_the_wait_is_drawn_from_zero_to_a_capped_step(failures: int, most: float) -> None:
    assert wait_s(POLICY, failures, retry_after_s=None, random=zero) == 0
    assert wait_s(POLICY, failures, retry_after_s=None, random=top) == pytest.approx(most)


def test_the_draw_is_uniform() -> None:
    source = Random(1)
    waits = [wait_s(POLICY, 1, retry_after_s=None, random=source.randbytes) for _ in range(2000)]
    assert sum(waits) / len(waits) == pytest.approx(0.5, abs=0.03)
    assert sum(wait < 0.1 for wait in waits) == pytest.approx(200, abs=60)


def test_the_sinks_wish_is_kept_within_a_second() -> None:
    assert wait_s(POLICY, 9, retry_after_s=7.0, random=zero) == 7.0
    assert wait_s(POLICY, 1, retry_after_s=7.0, random=top) == pytest.approx(7.5)


@pytest.mark.parametrize(("wish", "kept"), [(1e9, 600.0), (-5.0, 0.0)])
def test_an_absurd_wish_is_bounded(wish: float, kept: float) -> None:
    assert wait_s(POLICY, 1, retry_after_s=wish, random=zero) == kept
