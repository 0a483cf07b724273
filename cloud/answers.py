"""The JSON shapes of the API, and what each error is in HTTP."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from aiohttp import web

from cloud.auth import UnknownPeerError
from cloud.listeners import TooManyListeners
from cloud.requests import MediaTypeError, SlowBodyError
from cloud.store import StoreBusy, StoreError, StoreFull
from gateway.errors import (
    ForbiddenError,
    GatewayError,
    IntegrityError,
    PeerError,
    TooLargeError,
)

if TYPE_CHECKING:
    from cloud.store import Acknowledgement, Page, Receipt, StoredRecord

_STATUS: tuple[tuple[type[GatewayError], int, int | None], ...] = (
    # error, status, Retry-After in seconds; the first match counts
    (UnknownPeerError, 401, None),
    (ForbiddenError, 403, None),
    # The sender's key or name is wrong, not its records: it must not give them up one by one.
    (IntegrityError, 403, None),
    (SlowBodyError, 408, None),
    (TooLargeError, 413, None),
    (MediaTypeError, 415, None),
    (PeerError, 400, None),
    (StoreBusy, 503, 1),
    (TooManyListeners, 503, 30),
    # Not 507: a gateway may take that for a fault of the batch, and this only has to wait.
    (StoreFull, 503, 60),
    (StoreError, 503, 10),
)


def refusal(error: GatewayError) -> web.Response:
    """The answer to a request that raised ``error``."""
    for kind, status, retry_after in _STATUS:
        if isinstance(error, kind):
            headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
            return web.json_response({"error": str(error)}, status=status, headers=headers)
    raise error


def not_found(what: str) -> web.Response:
    """Nothing there, or nothing that this caller may know of: the two look the same."""
    return web.json_response({"error": what}, status=404)


def record_object(stored: StoredRecord) -> dict[str, Any]:
    """One sealed record, in pages and in events."""
    return {
        "cursor": stored.cursor,
        "id": stored.header.id.hex(),
        "gateway": stored.gateway,
        "patient": stored.header.patient.hex(),
        "lane": stored.header.lane.value,
        "received_ms": stored.header.received_ms,
        "epoch": stored.header.epoch.hex(),
        "record": base64.b64encode(stored.record).decode(),
    }


def page_object(page: Page) -> dict[str, Any]:
    """A page; ``next`` is what to send as ``after`` for more, null at the end."""
    return {"records": [record_object(stored) for stored in page.records], "next": page.next}


def receipt_response(receipt: Receipt) -> web.Response:
    """What became of a batch; 409 if envelopes have to come first."""
    if receipt.missing_epochs:
        missing = [epoch.hex() for epoch in receipt.missing_epochs]
        return web.json_response(
            {"error": "the envelopes of these epochs come first", "missing_epochs": missing},
            status=409,
        )
    refused = [{"id": record.hex(), "reason": reason} for record, reason in receipt.refused]
    return web.json_response(
        {
            "stored": [record.hex() for record in receipt.stored],
            "known": [record.hex() for record in receipt.known],
            "refused": refused,
        }
    )


def acknowledgement_object(given: Acknowledgement) -> dict[str, Any]:
    """Who took over which alarm, and when."""
    return {
        "cursor": given.cursor,
        "alarm": given.alarm.hex(),
        "name": given.name,
        "role": given.role,
        "at_ms": given.at_ms,
    }
