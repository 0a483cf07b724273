"""The machine's clocks."""

from __future__ import annotations

import time
from pathlib import Path

from gateway import clock
from gateway.clock import SystemClock


def test_monotonic_only_goes_forward() -> None:
    seen = [SystemClock().monotonic() for _ in range(1000)]
    assert seen == sorted(seen)
    assert abs(SystemClock().monotonic() - time.monotonic()) < 5


def test_wall_is_utc_seconds() -> None:
    assert abs(SystemClock().wall() - time.time()) < 5


def test_a_clock_in_the_past_is_not_trusted(monkeypatch) -> None:
    """A Raspberry Pi without a network starts in the past; the operating system is what is
    replaced here, not a part of ours."""
    for moment, trusted in ((0.0, False), (1_700_000_000.0, False), (1_800_000_000.0, True)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert SystemClock().synchronised() is trusted


def test_nobody_else_asks_the_system_for_the_time_of_a_record() -> None:
    """The rooms between socket and disk get `now` and `wall` as arguments."""
    top = Path(clock.__file__).parent
    for room in ("ingress", "dtls", "roster", "outbox"):
        for module in (top / room).rglob("*.py"):
            text = module.read_text()
            assert "time.time()" not in text, module
            assert "time.monotonic()" not in text, module
