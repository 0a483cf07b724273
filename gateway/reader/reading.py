"""All records that a recipient may read, in order, and then what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.reader.fetch import CloudUnreachable
from gateway.reader.opening import NotEntitledError, Opened, TamperedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gateway.lane import Lane
    from gateway.reader.opening import Opening
    from gateway.reader.pages import Item, Page

POLL_S = 1.0
"""Between two looks while nothing comes. The store can push emergencies, but not the routine
lane, and one way for both is one way to be right."""

MAX_PAUSE_S = 30.0
"""While the store is away: doubled from POLL_S up to this."""


class Source(Protocol):
    """What :class:`gateway.reader.fetch.CloudClient` is to this module, with its errors."""

    async def page(self, *, after: int, lane: Lane | None) -> Page: ...

    async def epoch(self, epoch: bytes) -> bytes | None: ...


class Unopened(NamedTuple):
    """A record that is not shown, and why."""

    item: Item
    reason: str
    tampered: bool


class CaughtUp(NamedTuple):
    """Everything that the store has was given."""


class Interrupted(NamedTuple):
    """The store is away; the reading goes on when it is back."""

    reason: str


async def read(
    source: Source,
    opening: Opening,
    *,
    lane: Lane | None = None,
    since_ms: int = 0,
    follow: bool = False,
) -> AsyncGenerator[Opened | Unopened | CaughtUp | Interrupted, None]:
    """Records received at ``since_ms`` (UTC milliseconds) or later.

    Without ``follow`` it ends after CaughtUp, and CloudUnreachable ends it too; with it, it goes
    on until cancelled, and an interruption is told once. Raises CloudRefused.
    """
    after = 0
    caught_up = False
    pause = POLL_S
    while True:
        try:
            page = await source.page(after=after, lane=lane)
            for item in page.items:
                # Before opening: who asks for today need not fetch a year of envelopes. The
                # time is bound to the record, so that one which lies does not open later either.
                if item.header.received_ms >= since_ms:
                    yield await _open(source, opening, item)
                after = item.cursor
            pause = POLL_S
        except CloudUnreachable as error:
            if not follow:
                raise
            if pause == POLL_S:
                yield Interrupted(str(error))
            pause = min(pause * 2, MAX_PAUSE_S)
            await asyncio.sleep(pause)
            continue
        if page.next is not None:
            after = page.next
            continue
        if not caught_up:
            caught_up = True
            yield CaughtUp()
        if not follow:
            return
        await asyncio.sleep(POLL_S)


async def _open(source: Source, opening: Opening, item: Item) -> Opened | Unopened:
    epoch = item.header.epoch
    if opening.needs(epoch):
        opening.learn(epoch, await source.epoch(epoch))
    try:
        return opening.open(item)
    except NotEntitledError as error:
        return Unopened(item, str(error), tampered=False)
    except TamperedError as error:
        return Unopened(item, str(error), tampered=True)
