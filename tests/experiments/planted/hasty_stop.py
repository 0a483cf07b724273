"""Stopping begins at the wrong end: the outbox is closed first, and what comes is answered."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from gateway.app import Gateway
from gateway.cli import main
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.cose.envelope import Envelope
    from gateway.outbox.entry import Entry

_GRACE_S = 0.1
_stop, _close = Gateway.stop, Writer.close


def _answering(
    self: Writer, entries: Sequence[Entry], envelopes: Sequence[Envelope], token: object
) -> None:
    self._loop.call_soon(self._on_committed, [token])


async def _done(self: Writer) -> None:
    pass


async def _stopping(self: Gateway) -> None:
    Writer.submit = _answering  # type: ignore[method-assign]
    await _close(self._writer)
    Writer._put = lambda *_: None  # type: ignore[method-assign,assignment]
    Writer.flush = Writer.close = _done  # type: ignore[method-assign]
    await asyncio.sleep(_GRACE_S)
    await _stop(self)


Gateway.stop = _stopping  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
