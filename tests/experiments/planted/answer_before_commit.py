"""A node is answered when its record is queued, not when it is on disk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gateway.cli import main
from gateway.outbox.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.cose.envelope import Envelope
    from gateway.outbox.entry import Entry

_submit, _landed = Writer.submit, Writer._landed


def _answering(
    self: Writer, entries: Sequence[Entry], envelopes: Sequence[Envelope], token: object
) -> None:
    _submit(self, entries, envelopes, token)
    self._loop.call_soon(self._on_committed, [token])


def _answered(self: Writer, tokens: list[object], *rest: Any) -> None:
    _landed(self, [], *rest)


Writer.submit = _answering  # type: ignore[method-assign]
Writer._landed = _answered  # type: ignore[method-assign,assignment]

if __name__ == "__main__":
    sys.exit(main())
