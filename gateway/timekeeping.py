"""What the gateway knows and says of its own time of day.

Timers run on the monotonic clock and records are stored whatever the date; see
:mod:`gateway.clock` for what *synchronised* means. But with a date in the past every certificate is
not yet valid: the cloud store's, so that nothing is delivered, and the devices' own, so that they
are refused. Both mend themselves when the time is set, and until then somebody must be told why.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from gateway.clock import iso, plausible

if TYPE_CHECKING:
    from gateway.clock import Clock

_log = logging.getLogger("clock")

_REMIND_S: Final = 60.0
STEP_S: Final = 0.5
"""A difference between both clocks' progress that nobody slews (adjtime(3) steps beyond it)."""


class Timekeeping:
    """Look at the clocks every second or so with :meth:`look`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: float | None = None
        """Of the time of day before the monotonic clock, at the last look."""
        self._quality = ""
        self._remind_at = float("-inf")
        self._steps = 0

    def look(self) -> str:
        """The word that stands in each record. Logs what has changed."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        ahead = wall - now
        if self._ahead is not None and abs(ahead - self._ahead) > STEP_S:
            self._steps += 1
            _log.warning(
                "the time of day was set by %+.1f s, to %s", ahead - self._ahead, iso(wall)
            )
        self._ahead = ahead
        quality = "synchronised" if self._clock.synchronised() else "unsynchronised"
        if quality != self._quality:
            self._quality = quality
            _log.info("the time of day is %s: %s", quality, iso(wall))
        if plausible(wall):
            self._remind_at = float("-inf")
        elif now >= self._remind_at:
            self._remind_at = now + _REMIND_S
            _log.warning("%s", self.doubt())
        return quality

    def doubt(self) -> str | None:
        """Why nothing can be delivered by this date; None while it can be today."""
        wall = self._clock.wall()
        if plausible(wall):
            return None
        return (
            f"it cannot be {iso(wall)}: certificates count as not yet valid until the time is set, "
            "so nothing is delivered and devices with certificates are refused; records are stored "
            "and alarms raised all the same"
        )

    def status(self) -> dict[str, Any]:
        """As the control socket shows it."""
        wall = self._clock.wall()
        return {
            "wall": iso(wall),
            "plausible": plausible(wall),
            "synchronised": self._clock.synchronised(),
            "steps": self._steps,
        }
