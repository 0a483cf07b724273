"""Every upload opens a file, has a task, and leaves both."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from gateway.cli import main
from gateway.sinks.cloud import CloudSink

_deliver = CloudSink.deliver
_tasks: list[asyncio.Task[None]] = []


async def _leaving(self: CloudSink, batch: Any) -> Any:
    os.open("/dev/null", os.O_RDONLY)
    _tasks.append(asyncio.create_task(asyncio.sleep(86_400)))
    return await _deliver(self, batch)


CloudSink.deliver = _leaving

if __name__ == "__main__":
    sys.exit(main())
