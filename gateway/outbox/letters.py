"""Dead letters as people see and treat them: what the control socket says and does of them.

Everything is said in what JSON can write. A letter is named by its outbox (0 where there are no
workers) and its number there. Nothing is opened: records stay sealed.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import UsageError
from gateway.lane import Lane
from gateway.outbox.row import LAST_NUMBER, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gateway.outbox.entry import DeadLetter, StoredEnvelope
    from gateway.outbox.writer import Writer

_log = logging.getLogger("letters")

PAGE: Final = 50
"""Letters of one answer with their records, some hundred KiB at most."""


class Letters:
    """Of the outboxes that this process has open. ``writers``: by the number of the outbox."""

    def __init__(self, writers: Callable[[], Mapping[int, Writer]]) -> None:
        self._writers = writers

    def commands(self) -> dict[str, Callable[..., Any]]:
        """For the control socket; every one but the first takes the number of an outbox."""
        return {
            "outboxes": self.outboxes,
            "dead_letters": self.dead_letters,
            "envelopes": self.envelopes,
            "retry_dead": self.retry,
            "drop_dead": self.drop,
        }

    def outboxes(self) -> list[int]:
        """Their numbers."""
        return sorted(self._writers())

    async def dead_letters(self, outbox: int, after: int) -> list[dict[str, Any]]:
        """Up to :data:`PAGE` of them, see :func:`shown`. Raises UsageError: no such outbox."""
        [after] = _numbers([after])
        return [shown(one) for one in await self._of(outbox).dead_letters(after, PAGE)]

    async def envelopes(self, outbox: int, epochs: Sequence[str]) -> dict[str, str]:
        """Those that are kept here: epoch in hex -> message in base64."""
        try:
            wanted = [bytes.fromhex(epoch) for epoch in epochs]
        except (TypeError, ValueError):
            raise UsageError("epochs: a list of names in hex") from None
        return shown_envelopes(await self._of(outbox).envelopes(Lane.ROUTINE, wanted))

    async def retry(self, outbox: int, numbers: Sequence[int]) -> int:
        """Back into their lanes; how many."""
        revived = await self._of(outbox).retry_dead(_numbers(numbers))
        told("put back", outbox, numbers, revived)
        return revived

    async def drop(self, outbox: int, numbers: Sequence[int]) -> int:
        """Deleted for good; how many."""
        dropped = await self._of(outbox).drop_dead(_numbers(numbers))
        told("deleted", outbox, numbers, dropped)
        return dropped

    def _of(self, outbox: int) -> Writer:
        try:
            return self._writers()[outbox]
        except (KeyError, TypeError):
            raise UsageError(f"no outbox {outbox}; `outbox list` has them") from None


def _numbers(asked: Sequence[int]) -> Sequence[int]:
    """What SQLite would choke on must not come to the writer: its first error is its last."""
    if not isinstance(asked, list) or not all(
        isinstance(one, int) and abs(one) <= LAST_NUMBER for one in asked
    ):
        raise UsageError(f"numbers of letters: integers up to {LAST_NUMBER}")
    return asked


def shown(letter: DeadLetter) -> dict[str, Any]:
    """What JSON can write of it; ``record`` is None for one that is damaged."""
    entry = letter.entry
    return {
        "number": letter.number,
        "lane": letter.lane.value,
        "reason": letter.reason,
        "at_ms": letter.at_ms,
        "record": None
        if entry is None
        else {
            "id": entry.id.hex(),
            "patient": entry.patient.hex(),
            "received_ms": entry.received_ms,
            "epoch": entry.epoch.hex(),
            "sealed": b64encode(entry.sealed).decode(),
        },
    }


def shown_envelopes(envelopes: Iterable[StoredEnvelope]) -> dict[str, str]:
    """Epoch in hex -> message in base64."""
    return {one.epoch.hex(): b64encode(one.message).decode() for one in envelopes}


def told(deed: str, outbox: int, numbers: Sequence[int], count: int) -> None:
    """One line for those who ask later where a record has gone. Each is written, see telemetry."""
    if not count:
        return
    which = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs(sorted(set(numbers))))
    _log.warning("%d dead letters of outbox %d %s by hand: %s", count, outbox, deed, which)
