"""The machine's clocks."""

from __future__ import annotations

import ctypes
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import clock
from gateway.clock import SystemClock


def test_monotonic_only_goes_forward() -> None:
    seen = [SystemClock().monotonic() for _ in range(1000)]
    assert seen == sorted(seen)
    assert abs(SystemClock().monotonic() - time.monotonic()) < 5


def test_wall_is_utc_seconds() -> None:
    assert abs(SystemClock().wall() - time.time()) < 5


class Kernel:
    """The operating system is what is replaced in these tests, not a part of ours."""

    def __init__(self, state: int, status: int) -> None:
        self.state, self.status = state, status

    def adjtimex(self, timex: Any) -> int:
        assert timex[:4] == bytes(4), "modes: nothing is to be changed"
        timex[40:44] = struct.pack("=i", self.status)
        return self.state


def kernel(monkeypatch, state: int, status: int) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Kernel(state, status))


def test_a_clock_in_the_past_is_not_trusted(monkeypatch) -> None:
    """A Raspberry Pi without a network starts in the past."""
    kernel(monkeypatch, 0, 0)
    for moment, trusted in ((0.0, False), (1_700_000_000.0, False), (1_800_000_000.0, True)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert SystemClock().synchronised() is trusted


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [(0, 0x2001, True), (5, 0x40, False), (0, 0x41, False), (1, 0x11, True), (-1, 0x40, None)],
    ids=["kept", "nobody keeps it", "not kept any more", "leap second ahead", "forbidden"],
)
def test_the_kernel_is_asked_too(monkeypatch, state: int, status: int, said: bool | None) -> None:
    """Where it may not be asked, the date alone decides."""
    kernel(monkeypatch, state, status)
    assert clock.kernel_synchronised() is said
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    assert SystemClock().synchronised() is (said is not False)


def test_the_real_kernel_answers() -> None:
    """On this machine, whatever it says: the layout of what it fills in is checked by its size."""
    assert clock.kernel_synchronised() in (True, False, None)


def test_nobody_else_asks_the_system_for_the_time_of_a_record() -> None:
    """The rooms between socket and disk get `now` and `wall` as arguments."""
    top = Path(clock.__file__).parent
    for room in ("ingress", "dtls", "roster", "outbox"):
        for module in (top / room).rglob("*.py"):
            text = module.read_text()
            assert "time.time()" not in text, module
            assert "time.monotonic()" not in text, module
