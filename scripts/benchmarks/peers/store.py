"""The store that peers post to: appends every request's body to a file, synced before it answers.

Ours posts to its own cloud store, which takes sealed records only. To be fair to the peers this one
does less than that: plain HTTP, no client certificates, no index, no check of what comes. Requests
that arrive while the disk syncs share the next sync.

Arguments: port (0: any), file. Says the port on standard output. ``POST /records`` -> 204;
``GET /count`` -> how many records are on the disk.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web


class Journal:
    """An append-only file with shared syncs."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._woken = asyncio.Event()
        self.records = 0

    async def append(self, body: bytes) -> None:
        """Returns when it is on the disk."""
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append((body, durable))
        self._woken.set()
        await durable

    async def run(self) -> None:
        """Write and sync what waits, again and again."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, b"\n".join(body for body, _ in batch) + b"\n")
            self.records += len(batch)
            for _, durable in batch:
                if not durable.done():  # its request may have been given up
                    durable.set_result(None)

    def _write(self, lines: bytes) -> None:
        os.write(self._file, lines)
        os.fdatasync(self._file)


async def main() -> None:
    """Until it is ended."""
    port, path = sys.argv[1:]
    journal = Journal(path)

    async def post(request: web.Request) -> web.Response:
        await journal.append(await request.read())
        return web.Response(status=204)

    async def count(request: web.Request) -> web.Response:
        return web.json_response(journal.records)

    application = web.Application()
    application.router.add_post("/records", post)
    application.router.add_get("/count", count)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", int(port))
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await journal.run()


if __name__ == "__main__":
    asyncio.run(main())
