"""How fast a device may send: a token bucket each (RFC 8516 for the answer to those over it)."""

from __future__ import annotations

from typing import Final

_BURST_S: Final = 2.0
"""A device that was silent may catch up by this much."""

_DEVICES: Final = 8192

REFUSALS_PER_S: Final = 1.0
"""4.29 a second and device, then silence: RFC 8516 section 3 wants these limited too. A flood is
not to cost an answer each; a node that is only hasty repeats what was not answered."""


class Rates:
    """Token buckets by device. per_s: messages a second; 0: no limit."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def wait_s(self) -> float:
        """After so long a device over its rate has a token again."""
        return 1.0 / self.per_s if self.per_s else 0.0

    def over(self, device: str, now: float) -> bool:
        """Take one token; True when there was none."""
        if not self.per_s:
            return False
        full = max(1.0, self.per_s * _BURST_S)
        tokens, since = self._buckets.get(device, (full, now))
        tokens = min(full, tokens + (now - since) * self.per_s)
        if tokens < 1.0:
            self._buckets[device] = (tokens, now)
            return True
        if len(self._buckets) >= _DEVICES and device not in self._buckets:
            # Forgetting a bucket fills it: nobody is refused for it.
            del self._buckets[next(iter(self._buckets))]
        self._buckets[device] = (tokens - 1.0, now)
        return False
