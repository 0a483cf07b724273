"""Claimed messages that wait for their turn, and which are shed when too many wait.

**Theory.** What a datagram costs up to here (received, opened, claimed) is a sixth of what it costs
in all. So the sockets are always drained, even when not everything can be stored, and the queue is
here and not in the kernel: short, and of messages that are known. What a node declares an emergency
does not wait at all; in the kernel's queue it would wait, or be lost, with everything else.

When the queue is full, a message is shed unless it is its association's only one, so no bracelet is
silenced by the flood of another. A shed message was not answered: its node sends it again (RFC 7252
section 4.2), later each time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.coap.fastlane import Telemetry
    from gateway.dtls.association import Association


class Backlog:
    """cap: messages that wait at most, but for those that are the only ones of their association:
    of both at most twice as many."""

    def __init__(self, cap: int = 1024) -> None:
        self.cap = cap
        self._waiting: deque[tuple[Association, Telemetry]] = deque()
        self._of: dict[int, int] = {}
        """How many wait of each association."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, association: Association, telemetry: Telemetry) -> bool:
        """Whether it may wait; otherwise it is shed."""
        number = association.endpoint.association
        mine = self._of.get(number, 0)
        size = len(self._waiting)
        if size >= self.cap and (mine or size >= 2 * self.cap):
            return False
        self._of[number] = mine + 1
        self._waiting.append((association, telemetry))
        return True

    def take(self, count: int) -> list[tuple[Association, Telemetry]]:
        """Up to ``count`` of them, the longest waiting first."""
        if count >= len(self._waiting):
            taken = list(self._waiting)
            self._waiting.clear()
            self._of.clear()
            return taken
        taken = [self._waiting.popleft() for _ in range(count)]
        for association, _ in taken:
            number = association.endpoint.association
            left = self._of[number] - 1
            if left:
                self._of[number] = left
            else:
                del self._of[number]
        return taken
