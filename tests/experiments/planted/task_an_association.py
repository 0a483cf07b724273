"""Every association has a task that does not end with it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gateway.cli import main
from gateway.dtls.server import Server

_insert = Server._insert
_tasks: list[asyncio.Task[None]] = []


def _with_task(self: Server, association: Any) -> None:
    _tasks.append(asyncio.create_task(asyncio.sleep(86_400)))
    _insert(self, association)


Server._insert = _with_task

if __name__ == "__main__":
    sys.exit(main())
