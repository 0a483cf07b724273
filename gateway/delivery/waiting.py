"""Waiting for the first of several events, or for a time, or for work that events cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def wait_for_any(seconds: float | None, *events: asyncio.Event) -> None:
    """Until one of the events is set or the time is over. None: no time."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in waiting:
            future.cancel()


async def done_before(work: Coroutine[Any, Any, None], *events: asyncio.Event) -> bool:
    """Whether the work was done before one of the events; if not, it is cancelled. Raises what it
    raises."""
    task = asyncio.ensure_future(work)
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait([task, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        return task.done()
    finally:
        for future in (task, *waiting):
            future.cancel()
        await asyncio.wait([task])
