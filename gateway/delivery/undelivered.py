"""An emergency that does not reach the cloud store is an alarm on the ward.

Signalled within a second: half a second after its record if deliveries fail, three quarters if
nobody answers at all, a quarter after one was refused for good. It is logged again, louder, every
minute, and ends only when an emergency has been delivered since and none waits: not because one
became a dead letter, and not by a restart, because the alarm's id ends in the count of the
emergencies delivered before it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from gateway.clock import iso
from gateway.lane import Lane
from gateway.vitals.technical import UNDELIVERABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.alarm_book import AlarmBook
    from gateway.outbox.entry import Status

_log = logging.getLogger("delivery")

FAILING_S: Final = 0.25
SLOW_S: Final = 0.5
"""Without one delivered although some wait, until it is an alarm; a sweep comes on top, and one
before it is noticed."""
AGAIN_S: Final = 60.0

_COUNT_BYTES: Final = 8


class Undelivered:
    """Call :meth:`sweep` every quarter of a second. gateway: its name, the alarm's device."""

    def __init__(self, gateway: str, book: AlarmBook, random: Callable[[int], bytes]) -> None:
        self._gateway = gateway
        self._book = book
        self._random = random
        self._delivered = -1
        self._refused = 0
        self._stuck_since: float | None = None
        self._next_word = 0.0

    def sweep(self, status: Status, pump: Mapping[str, Any], now: float, wall: float) -> None:
        """``status``: of the outbox. ``pump``: of the emergency lane's delivery, see
        :class:`gateway.delivery.status.PumpStatus`."""
        lane = status.lanes[Lane.EMERGENCY]
        if not lane.rows:
            self._stuck_since = None
        elif self._stuck_since is None or lane.delivered != self._delivered:
            self._stuck_since = now
        self._delivered = lane.delivered
        newly_refused = pump["refused"] > self._refused
        self._refused = pump["refused"]
        alarm = self._book.technical.get(self._gateway, UNDELIVERABLE)
        if alarm is not None:
            before = int.from_bytes(alarm.id[-_COUNT_BYTES:])
            if not lane.rows and lane.delivered > before:
                self._book.end_technical(self._gateway, UNDELIVERABLE, wall)
            elif now >= self._next_word:
                self._next_word = now + AGAIN_S
                _log.critical(
                    "emergencies undelivered since %s; waiting: %d, refused: %d; %s",
                    iso(alarm.raised),
                    lane.rows,
                    pump["refused"],
                    pump["failure"] or "no answer",
                )
        elif newly_refused:
            self._raise("refused by the cloud store", lane.delivered, now, wall)
        elif self._stuck_since is not None:
            failure = pump["failure"]
            if now - self._stuck_since >= (FAILING_S if failure else SLOW_S):
                self._raise(failure or "no answer", lane.delivered, now, wall)

    def _raise(self, why: str, delivered: int, now: float, wall: float) -> None:
        self._next_word = now + AGAIN_S
        name = self._random(16 - _COUNT_BYTES) + delivered.to_bytes(_COUNT_BYTES)
        detail = f"an emergency is not delivered: {why}"
        self._book.raise_technical(name, self._gateway, "", UNDELIVERABLE, detail, wall)
