"""What comes in is stored by way of a file that is opened for it."""

from __future__ import annotations

import sys
from typing import Any

from gateway.cli import main
from gateway.outbox.writer import Writer

_submit = Writer.submit


def _looking(self: Writer, *arguments: Any) -> None:
    with open("/proc/loadavg"):
        _submit(self, *arguments)


Writer.submit = _looking

if __name__ == "__main__":
    sys.exit(main())
