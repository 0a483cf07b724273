"""Waiting for the first of several events, or for a time."""

from __future__ import annotations

import asyncio


async def wait_for_any(seconds: float | None, *events: asyncio.Event) -> None:
    """Until one of the events is set or the time is over. None: no time."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in waiting:
            future.cancel()
