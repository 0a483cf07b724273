"""The pulse: a round trip through everything that an acknowledgement needs, twice a second.

A watchdog that is fed by a timer proves that a timer runs. This one is fed when the event loop has
asked the writer's thread and the answer has come back to the loop; with workers, when every worker
has said so. Nothing is asked again while an answer is owed, so a part that hangs is not heaped
with questions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.clock import Clock

EVERY_S: Final = 0.5

LATE_S: Final = 1.0
"""An answer that takes longer is one that a node would miss: with the time between two questions
it is known within two seconds."""


class Pulse:
    """``run()`` it as a task. ``ask``: the round trip, which returns what is wrong although
    everything answers (a new start would not mend it); ``alive``: called after each."""

    def __init__(
        self, ask: Callable[[], Awaitable[str]], alive: Callable[[], None], clock: Clock
    ) -> None:
        self._ask = ask
        self._alive = alive
        self._clock = clock
        self._asked: float | None = None
        self._trouble = ""
        self.lag_s = 0.0
        """How much later than meant the event loop came back last."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._asked = self._clock.monotonic()
            try:
                self._trouble = await self._ask()
            except GatewayError as error:
                self._trouble = str(error)
            else:
                self._alive()
            self._asked = None
            began = self._clock.monotonic()
            await asyncio.sleep(EVERY_S)
            self.lag_s = max(self._clock.monotonic() - began - EVERY_S, 0.0)

    def trouble(self) -> str:
        """Why nothing can be acknowledged now; empty when it can."""
        if self._asked is not None and (silent := self._clock.monotonic() - self._asked) > LATE_S:
            return f"the outbox has not answered for {silent:.0f} s: a disk that hangs, or overload"
        return self._trouble
