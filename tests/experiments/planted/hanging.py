"""A gateway that can be made to hang: SIGUSR1 blocks its event loop, SIGUSR2 its disk for good.

``$HANGING_S``: for how long the loop. ``$HANGING_FAULT``: a fault in how the gateway notices:
``timer`` feeds the watchdog without asking anybody, ``alive`` calls itself ready as long as the
loop turns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

from gateway.cli import main
from gateway.outbox.store import Store
from gateway.telemetry.pulse import EVERY_S, Pulse

_fault = os.environ["HANGING_FAULT"]
_disk = threading.Event()
_disk.set()
_disk_free = Store.disk_free
_run = Pulse.run


def _asked_of_the_disk(self: Store, enough: int) -> int:
    """The writer's thread asks after each transaction, and every second when there is none."""
    _disk.wait()
    return _disk_free(self, enough)


async def _fed_by_a_timer(self: Pulse) -> None:
    async def feed() -> None:
        while True:
            alive()
            await asyncio.sleep(EVERY_S)

    alive, self._alive = self._alive, lambda: None
    await asyncio.gather(feed(), _run(self))


def _block_the_loop(number: int, frame: object) -> None:
    time.sleep(float(os.environ["HANGING_S"]))


def _block_the_disk(number: int, frame: object) -> None:
    _disk.clear()


Store.disk_free = _asked_of_the_disk
if _fault == "timer":
    Pulse.run = _fed_by_a_timer
elif _fault == "alive":
    Pulse.trouble = lambda self: ""

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _block_the_loop)
    signal.signal(signal.SIGUSR2, _block_the_disk)
    sys.exit(main())
