"""Claimed messages that wait for their turn, and which are shed when too many wait.

**Theory.** What a datagram costs up to here (received, opened, claimed) is a sixth of what it costs
in all. So the sockets are always drained, even when not everything can be stored, and the queue is
here and not in the kernel: short, and of messages that are known. What a node declares an emergency
does not wait at all; in the kernel's queue it would wait, or be lost, with everything else.

Associations take turns, each with its oldest message: so an ordinary pack in which triage will find
an emergency waits for one message of each other bracelet, not for all that a flood has brought.

When the queue is full, a message is shed if its association has its share of the queue already, so
no bracelet is silenced by the flood of another. A shed message was not answered: its node sends it
again (RFC 7252 section 4.2), later each time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.coap.fastlane import Telemetry
    from gateway.dtls.association import Association


class Backlog:
    """cap: messages that wait at most, but for those of associations that have less than their
    share of it: of both at most twice as many."""

    def __init__(self, cap: int = 1024) -> None:
        self.cap = cap
        self._size = 0
        self._of: dict[int, deque[tuple[Association, Telemetry]]] = {}
        """What waits of each association, the oldest first; none is empty."""
        self._turns: deque[int] = deque()
        """These associations, the next one first."""

    def __len__(self) -> int:
        return self._size

    def put(self, association: Association, telemetry: Telemetry) -> bool:
        """Whether it may wait; otherwise it is shed."""
        number = association.endpoint.association
        mine = self._of.get(number)
        if self._size >= self.cap:
            share = self.cap // max(len(self._of), 1)
            if self._size >= 2 * self.cap or (mine is not None and len(mine) >= share):
                return False
        self._size += 1
        if mine is None:
            self._of[number] = deque(((association, telemetry),))
            self._turns.append(number)
        else:
            mine.append((association, telemetry))
        return True

    def take(self, count: int) -> list[tuple[Association, Telemetry]]:
        """Up to ``count`` of them, of each association in its turn."""
        taken: list[tuple[Association, Telemetry]] = []
        turns = self._turns
        while turns and len(taken) < count:
            number = turns.popleft()
            mine = self._of[number]
            taken.append(mine.popleft())
            if mine:
                turns.append(number)
            else:
                del self._of[number]
        self._size -= len(taken)
        return taken
