"""Nothing is kept back for deletes on a full disk."""

from __future__ import annotations

import sys

from gateway.cli import main
from gateway.outbox.ballast import Ballast


def _nothing(self: Ballast, quota: int) -> None:
    pass


Ballast.keep = _nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
