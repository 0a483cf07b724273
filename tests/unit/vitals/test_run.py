"""Runs of consecutive intervals, through the two rules that use them."""

from __future__ import annotations

from typing import Any

import pytest


def _numbers(*numbers: float) -> dict[str, Any]:
    return dict(zip(("beyond", "limit", "between", "within", "n"), numbers, strict=True))


RULES = {
    "extreme_bradycardia": _numbers(1.501, 1.5, 1.4, 1.333, 5),
    "extreme_tachycardia": _numbers(0.42, 0.429, 0.44, 0.47, 17),
}


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Name and intervals."""
    return request.param, RULES[request.param]


class Heart:
    """Beats one after another, in packs."""

    def __init__(self, bracelet: Any, rule: str) -> None:
        self.bracelet = bracelet
        self.rule = rule
        self.at = 0.0

    def beats(self, *rr: float, pause: float = 0.0, **values: Any) -> bool:
        self.at += sum(rr) + pause
        finding = self.bracelet.finds(self.rule, self.at, rr=list(rr), **values)
        return finding is not None


@pytest.fixture
def heart(bracelet: Any, rule: Any) -> Heart:
    """Judged by the rule."""
    heart = Heart(bracelet, rule[0])
    assert not heart.beats(0.8, 0.8)
    return heart


@pytest.mark.parametrize("size", [1, 3, 17])
def test_the_beat_that_completes_the_run_raises_it(heart: Heart, rule: Any, size: int) -> None:
    """However the beats are packed."""
    beyond, n = rule[1]["beyond"], rule[1]["n"]
    sent = 0
    while sent < n:
        pack = min(size, n - sent)
        sent += pack
        assert heart.beats(*[beyond] * pack) == (sent == n)


def test_the_run_is_strict(heart: Heart, rule: Any) -> None:
    """One interval at the limit begins it anew."""
    beyond, limit, n = rule[1]["beyond"], rule[1]["limit"], rule[1]["n"]
    assert not heart.beats(*[beyond] * (n - 1), limit, *[beyond] * (n - 1))
    assert heart.beats(beyond)


def test_it_ends_after_as_many_beats_within_the_milder_limit(heart: Heart, rule: Any) -> None:
    """Hysteresis: a rate that sways about the limit is one alarm."""
    beyond, between, within, n = (rule[1][key] for key in ("beyond", "between", "within", "n"))
    assert heart.beats(*[beyond] * n)
    assert heart.beats(*[between] * 30)
    assert heart.beats(*[within] * (n - 1))
    assert heart.beats(between)
    assert heart.beats(*[within] * (n - 1))
    assert heart.beats(within, temp=36.6) is False
    assert not heart.beats(*[beyond] * (n - 1))
    assert heart.beats(beyond)


def test_a_run_within_one_pack_is_reported_although_it_is_over(heart: Heart, rule: Any) -> None:
    """A node that collects for a minute must not hide it."""
    beyond, within, n = (rule[1][key] for key in ("beyond", "within", "n"))
    assert heart.beats(*[beyond] * n, *[within] * (n + 1))
    assert not heart.beats(within)


def test_a_pack_without_beats_changes_nothing(heart: Heart, rule: Any) -> None:
    """The condition holds until beats say otherwise."""
    assert heart.beats(*[rule[1]["beyond"]] * rule[1]["n"])
    heart.at += 1
    assert heart.beats(temp=36.6, hr=60)


def test_the_sensor_off_the_skin_ends_it(heart: Heart, rule: Any) -> None:
    """Nothing is known any more; contact has a finding of its own."""
    beyond, n = rule[1]["beyond"], rule[1]["n"]
    assert heart.beats(*[beyond] * n)
    assert not heart.beats(*[beyond] * n, contact=False)
    assert not heart.beats(*[beyond] * (n - 1), contact=True)
    assert heart.beats(beyond, contact=True)


def test_beats_that_never_arrived_do_not_join_runs(heart: Heart, rule: Any) -> None:
    """More than 10 s of beats missing: two short runs are not one."""
    beyond, n = rule[1]["beyond"], rule[1]["n"]
    assert not heart.beats(*[beyond] * (n - 1))
    assert not heart.beats(beyond, pause=10.1)
    assert not heart.beats(*[beyond] * (n - 2), pause=9.9)
    assert heart.beats(beyond)


def test_beats_sent_again_count_once(heart: Heart, rule: Any) -> None:
    """A node may repeat its last beats against loss."""
    beyond, n = rule[1]["beyond"], rule[1]["n"]
    assert not heart.beats(*[beyond] * (n - 1))
    for _ in range(3):
        assert heart.bracelet.finds(heart.rule, heart.at, rr=[beyond] * (n - 1)) is None
    heart.at += beyond
    assert heart.bracelet.finds(heart.rule, heart.at, rr=[beyond] * 3)


def test_since_is_the_beat_before_the_run(heart: Heart, rule: Any, ward: Any) -> None:
    """Onset, not the moment when it was complete."""
    onset = heart.at
    run = [rule[1]["beyond"]] * rule[1]["n"]
    finding = heart.bracelet.finds(rule[0], onset + sum(run), rr=run)
    assert finding.since == pytest.approx(ward.start + onset, abs=0.01)
