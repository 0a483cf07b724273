"""Who waits for emergencies: one event a listener, capped, woken after a commit.

A listener holds no queue. It remembers a cursor and reads the store from there whenever it is
woken, so that one that is slow, or away, costs nothing and misses nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTENERS = 64
"""In all: each new emergency is one page read for each of them."""

LISTENERS_EACH = 8
"""Under one name, so that one centre that forgets to hang up cannot shut out the others."""


class TooManyListeners(GatewayError):
    """HTTP 503, with Retry-After."""

    kind = "listeners"


class Listeners:
    """The table of open event streams. ``stopping`` is set when all of them are to end."""

    def __init__(self) -> None:
        self._joined: dict[asyncio.Event, str] = {}
        self.stopping = False

    def __len__(self) -> int:
        return len(self._joined)

    @contextmanager
    def join(self, name: str) -> Iterator[asyncio.Event]:
        """Be woken for as long as the block runs. Raises TooManyListeners."""
        mine = sum(other == name for other in self._joined.values())
        if len(self._joined) >= LISTENERS or mine >= LISTENERS_EACH:
            raise TooManyListeners("too many event streams are open")
        woken = asyncio.Event()
        self._joined[woken] = name
        try:
            yield woken
        finally:
            del self._joined[woken]

    def wake(self) -> None:
        """There is something new."""
        for woken in self._joined:
            woken.set()

    def stop(self) -> None:
        """End every stream."""
        self.stopping = True
        self.wake()
