"""What a gateway says of itself: the figures of all its parts in one shape, which JSON can write.

The control socket, ``outbox status``, the metrics and, over several workers,
:mod:`gateway.workers.totals` take it from here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gateway.telemetry.build import build
from gateway.workers import totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.alarm_book import AlarmBook
    from gateway.coap.exchanges import Exchanges
    from gateway.delivery.deliveries import Deliveries
    from gateway.dtls.server import Server
    from gateway.ingress.aiocoap_lane import AiocoapLane
    from gateway.ingress.driver import Driver
    from gateway.ingress.udp import Sockets
    from gateway.outbox.writer import Writer
    from gateway.timekeeping import Timekeeping
    from gateway.workers.homes import Homes
    from gateway.workers.leftovers import Leftovers


def status(
    *,
    ward: str,
    listen: Sequence[str],
    uptime_s: float,
    timekeeping: Timekeeping,
    server: Server,
    driver: Driver,
    homes: Homes | None,
    exchanges: Exchanges,
    lane: AiocoapLane,
    sockets: Sockets,
    writer: Writer,
    deliveries: Deliveries,
    leftovers: Leftovers | None,
    book: AlarmBook,
) -> dict[str, Any]:
    """Of one process. ``leftovers``: outboxes of former workers, whose figures are added."""
    left = [] if leftovers is None else leftovers.status()
    others = Counter() if homes is None else homes.counts
    active = book.active()
    return {
        "version": version("ward-gateway"),
        "build": build(),
        "ward": ward,
        "listen": list(listen),
        "uptime_s": round(uptime_s, 1),
        "tasks": len(asyncio.all_tasks()),
        "clock": timekeeping.status(),
        "associations": len(server.associations()),
        "half_open": server.half_open(),
        "dtls": {**server.counts, "dropped_unauthentic": server.unauthentic()},
        "messages": dict(driver.counts + others),
        "exchanges": {"reused": exchanges.reused, "shed": exchanges.shed},
        "aiocoap_lane": dict(lane.counts),
        "received_datagrams": sockets.received,
        "unsent_datagrams": sockets.unsent,
        "dropped_by_kernel": sockets.dropped(),
        "outbox": totals.of_outboxes([asdict(writer.status()), *(outbox for outbox, _ in left)]),
        "delivery": totals.of_deliveries(
            [deliveries.status(), *(delivery for _, delivery in left if delivery)]
        ),
        "latency_ms": {lane: list(values) for lane, values in deliveries.latencies.items()},
        "active_alarms": len(active),
        "alarms": dict(Counter(alarm.rule for alarm in active)),
        "watched": len(book.silence),
    }
