"""Which messages came before, by a key of their content. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

RECENT: Final = 65_536
"""Messages whose repetition is recognised: an hour of a ward of 18 bracelets at 1 Hz."""


class RecentKeys:
    """The messages of late, at least the last RECENT, and whether they are on disk.

    Two generations, because taking the oldest out of a large dict one by one is slow.
    ``stored`` at the start: what the outbox remembers from before.
    """

    def __init__(self, stored: Iterable[bytes]) -> None:
        self._young: dict[bytes, bool] = {}
        self._old = dict.fromkeys(stored, True)

    def begin(self, key: bytes) -> bool | None:
        """True: it is on disk; False: on its way there; None: not seen before, and from now on
        on its way."""
        state = self._young.get(key)
        if state is None:
            state = self._old.get(key)
            if state is None:
                if len(self._young) >= RECENT:
                    self._old, self._young = self._young, {}
                self._young[key] = False
        return state

    def forget(self, key: bytes) -> None:
        """It was not admitted after all."""
        for generation in (self._young, self._old):  # the burst may have begun a new one
            generation.pop(key, None)

    def stored(self, key: bytes) -> None:
        """On disk."""
        for generation in (self._young, self._old):
            if key in generation:
                generation[key] = True
