"""The outbox's log is never folded in and cut."""

from __future__ import annotations

import sys

from gateway.cli import main
from gateway.outbox.store import Store


def _resting(self: Store) -> None:
    self._mark.sync()


Store.rest = _resting  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
