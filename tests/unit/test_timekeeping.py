"""What the log says of the time of day."""

from __future__ import annotations

import logging

import pytest

from gateway.timekeeping import Timekeeping


class Clock:
    def __init__(self, wall: float, *, kept: bool = True) -> None:
        self.now, self.utc, self.kept = 50.0, wall, kept

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.utc += seconds

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.utc

    def synchronised(self) -> bool:
        return self.kept


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


@pytest.fixture(autouse=True)
def _every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clock")


def test_a_pi_without_a_clock_says_why_nothing_is_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once, then each minute, until the time is set."""
    clock = Clock(10.0, kept=False)
    keeping = Timekeeping(clock)
    assert keeping.look() == "unsynchronised"
    assert "it cannot be 1970-01-01T00:00:10Z" in said(caplog)[1]
    clock.passes(59)
    keeping.look()
    assert said(caplog) == []
    clock.passes(2)
    keeping.look()
    assert len(said(caplog)) == 1
    assert "not yet valid until the time is set" in (keeping.doubt() or "")
    clock.utc, clock.kept = 1_800_000_000.0, True
    assert keeping.look() == "synchronised"
    lines = said(caplog)
    assert lines[0].startswith("the time of day was set by +17999")
    assert lines[1] == "the time of day is synchronised: 2027-01-15T08:00:00Z"
    clock.passes(3600)
    keeping.look()
    assert said(caplog) == []
    assert keeping.doubt() is None
    assert keeping.status() == {
        "wall": "2027-01-15T09:00:00Z",
        "plausible": True,
        "synchronised": True,
        "steps": 1,
    }


@pytest.mark.parametrize("step", [-3600.0, 86_400.0, -1.0])
def test_a_step_is_said_once(caplog: pytest.LogCaptureFixture, step: float) -> None:
    """A leap second that is inserted by a step is one too."""
    clock = Clock(1_800_000_000.0)
    keeping = Timekeeping(clock)
    keeping.look()
    caplog.clear()
    clock.passes(1)
    clock.utc += step
    for _ in range(3):
        keeping.look()
        clock.passes(1)
    (line,) = said(caplog)
    assert f"set by {step:+.1f} s" in line


def test_slewing_is_not_a_step(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(1_800_000_000.0)
    keeping = Timekeeping(clock)
    for _ in range(100):
        keeping.look()
        clock.passes(1)
        clock.utc += 0.1
    assert len(said(caplog)) == 1
