"""The table of open event streams."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from cloud.listeners import LISTENERS, LISTENERS_EACH, Listeners, TooManyListeners


def test_everyone_is_woken_until_they_leave() -> None:
    """Leaving makes room."""
    listeners = Listeners()
    with listeners.join("a") as first, listeners.join("b") as second:
        listeners.wake()
        assert first.is_set()
        assert second.is_set()
        assert len(listeners) == 2
    assert len(listeners) == 0


def test_there_is_a_cap_for_each_name_and_for_all() -> None:
    """Whoever comes too late is refused, and changes nothing."""
    listeners = Listeners()
    with ExitStack() as stack:
        for _ in range(LISTENERS_EACH):
            stack.enter_context(listeners.join("one"))
        with pytest.raises(TooManyListeners), listeners.join("one"):
            pass
        for number in range(LISTENERS - LISTENERS_EACH):
            stack.enter_context(listeners.join(f"desk {number}"))
        with pytest.raises(TooManyListeners), listeners.join("late"):
            pass
        assert len(listeners) == LISTENERS


def test_stopping_wakes_everyone() -> None:
    """So that every stream can end."""
    listeners = Listeners()
    with listeners.join("a") as woken:
        listeners.stop()
        assert woken.is_set()
        assert listeners.stopping
