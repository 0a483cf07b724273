"""Server-sent events (HTML Living Standard, section 9.2) of emergencies.

The id of an event is its record's cursor, so a listener that comes back with ``Last-Event-ID``
misses nothing. A listener without one starts at what comes next; the pages have the past.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from aiohttp import web

from cloud.answers import record_object
from cloud.store import StoreBusy, StoreError
from gateway.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloud.listeners import Listeners
    from cloud.store import Sight, Store, StoredRecord

HEARTBEAT_S = 15.0
"""A comment when there is nothing to say: keeps middleboxes from closing, finds dead peers."""

LOOK_S = 1.0
"""How often a quiet stream looks whether its listener hung up, who may otherwise be kept out by
their own dead streams; and for records that another process put into the same database."""

WRITE_TIMEOUT_S = 30.0
"""A listener that takes nothing for so long is gone; it can come back with its last id."""

PAGE = 100

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


async def serve_events(
    request: web.Request,
    listeners: Listeners,
    store: Store,
    *,
    name: str,
    sight: Sight,
    after: int | None,
    check: Callable[[], object],
) -> web.StreamResponse:
    """Stream what ``sight`` covers from the cursor ``after`` on, until either side ends it.

    ``check`` is called again and again; it raises PeerError when the caller has hung up or the
    caller's certificate has run out.
    Raises TooManyListeners and StoreError before the stream has begun; afterwards it just ends.
    """
    with listeners.join(name) as woken:
        last = await store.last_cursor()
        # An id that was never given here is of a database that is no more: what came since is
        # said again, rather than kept from the desk until the numbers have caught up.
        cursor = last if after is None else after if after <= last else 0
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        clock = asyncio.get_running_loop().time
        try:
            # An id without data moves the listener's last id and dispatches nothing: whoever is
            # cut off before the first event can still go on from here.
            await _send(response, f"retry: 2000\nid: {cursor}\n\n")
            spoken = clock()
            while not listeners.stopping:
                check()
                woken.clear()
                page = await store.page(sight, after=cursor, limit=PAGE)
                for record in page.records:
                    cursor = record.cursor
                    await _send(response, _event(record))
                    spoken = clock()
                if page.next is not None:
                    cursor = page.next
                    continue
                if clock() - spoken >= HEARTBEAT_S:
                    await _send(response, ":\n\n")
                    spoken = clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await woken.wait()
        except (ConnectionError, TimeoutError, PeerError, StoreError, StoreBusy):
            pass  # the listener comes back with its last id, or is gone
        return response


def _event(record: StoredRecord) -> str:
    data = json.dumps(record_object(record), separators=(",", ":"))
    return f"event: record\nid: {record.cursor}\ndata: {data}\n\n"


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(text.encode())
