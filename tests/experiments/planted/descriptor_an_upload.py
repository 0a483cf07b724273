"""Every upload opens a file and leaves it open."""

from __future__ import annotations

import os
import sys
from typing import Any

from gateway.cli import main
from gateway.sinks.cloud import CloudSink

_deliver = CloudSink.deliver


async def _leaving(self: CloudSink, batch: Any) -> Any:
    os.open("/dev/null", os.O_RDONLY)
    return await _deliver(self, batch)


CloudSink.deliver = _leaving

if __name__ == "__main__":
    sys.exit(main())
