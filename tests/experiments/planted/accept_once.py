"""The control socket takes no client any more once it could not take one."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from gateway import control
from gateway.cli import main

if TYPE_CHECKING:
    import socket


async def _listen(self: control.Control, one: socket.socket) -> None:
    with one:
        while True:
            if len(self._served) >= control.CLIENTS:
                await self._make_room()
            client, _ = await asyncio.get_running_loop().sock_accept(one)
            task = asyncio.create_task(self._serve(client))
            self._served[task] = None
            task.add_done_callback(self._served.pop)


control.Control._listen = _listen

if __name__ == "__main__":
    sys.exit(main())
