"""What was refused, told to whoever looks after the ward: at once, then once a minute a reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.dtls.server import Server

_log = logging.getLogger("dtls")

EVERY_S: Final = 60.0
"""Between two lines of one reason."""


class Refusals:
    """Watches the counts of a server. Call :meth:`sweep` once in a while."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._told: dict[str, tuple[float, int]] = {}

    def sweep(self, now: float) -> None:
        """One line for each reason that has news and was not told within a minute."""
        for reason, (times, last) in self._server.refused.items():
            if new := self._due(reason, times, now):
                _log.warning("handshakes refused, %s: %d; at last %s", reason, new, last)
        reason = "records that fail authentication"
        if new := self._due(reason, self._server.unauthentic(), now):
            _log.warning("dropped, %s: %d", reason, new)

    def _due(self, reason: str, times: int, now: float) -> int:
        """How many there are to tell of, if it is time."""
        when, told = self._told.get(reason, (float("-inf"), 0))
        if times == told or now - when < EVERY_S:
            return 0
        self._told[reason] = (now, times)
        return times - told
