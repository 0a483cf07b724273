"""What a caller sent, read strictly: anything not understood is an error, nothing is guessed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from cloud.store import PAGE_RECORDS
from gateway.errors import BadRequestError, PeerError, TooLargeError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

COSE = "application/cose"
"""RFC 9052 section 11.3.1. Its parameter ``cose-type`` is not needed: one path, one shape."""

MAX_BATCH_BYTES = 8 << 20
"""Eight times the largest record, or a thousand records of 8 KiB."""

MAX_ENVELOPE_BYTES = 64 << 10
"""128 recipients at about 160 bytes each, with the gateway's certificate, take 24 KiB."""

BODY_TIMEOUT_S = 30.0
"""For a whole body: a gateway on a bad line sends smaller batches."""

DEFAULT_LIMIT = 100

_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


class MediaTypeError(PeerError):
    """HTTP 415."""

    kind = "media_type"


class SlowBodyError(PeerError):
    """HTTP 408."""

    kind = "slow_body"


class Query(NamedTuple):
    """The parameters of a page."""

    after: int = 0
    limit: int = DEFAULT_LIMIT
    lane: Lane | None = None
    patient: bytes | None = None
    """Pseudonym, 16 bytes."""


def id_untrusted(text: str) -> bytes:
    """16 bytes from 32 hexadecimal digits. Raises BadRequestError."""
    if not _ID.fullmatch(text):
        raise BadRequestError("an id has 32 hexadecimal digits")
    return bytes.fromhex(text)


def cursor_untrusted(text: str, what: str) -> int:
    """A non-negative number that fits into 63 bits. Raises BadRequestError naming ``what``."""
    if not _CURSOR.fullmatch(text):
        raise BadRequestError(f"{what} is a number of at most 18 digits")
    return int(text)


def query_untrusted(parameters: Mapping[str, str], known: frozenset[str]) -> Query:
    """The parameters in ``known`` (fields of Query) and no others. Raises BadRequestError."""
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise BadRequestError(f"unknown parameter; there are: {', '.join(sorted(known))}")
    query = Query()
    if "after" in parameters:
        query = query._replace(after=cursor_untrusted(parameters["after"], "after"))
    if "limit" in parameters:
        limit = cursor_untrusted(parameters["limit"], "limit")
        if not 1 <= limit <= PAGE_RECORDS:
            raise BadRequestError(f"limit is 1 to {PAGE_RECORDS}")
        query = query._replace(limit=limit)
    if "lane" in parameters:
        try:
            query = query._replace(lane=Lane(parameters["lane"]))
        except ValueError:
            raise BadRequestError(f"lane is one of: {', '.join(Lane)}") from None
    if "patient" in parameters:
        query = query._replace(patient=id_untrusted(parameters["patient"]))
    return query


def last_event_id_untrusted(headers: Mapping[str, str]) -> int | None:
    """The cursor where an event stream broke off; None for a new one. Raises BadRequestError."""
    text = headers.get("Last-Event-ID")
    return None if text is None else cursor_untrusted(text, "Last-Event-ID")


async def body_untrusted(request: web.Request, limit: int) -> bytes:
    """The whole COSE body. Raises MediaTypeError, TooLargeError, SlowBodyError, BadRequestError."""
    if request.content_type != COSE:
        raise MediaTypeError(f"send {COSE}")
    if request.content_length is not None and request.content_length > limit:
        raise TooLargeError(f"the body may have {limit} bytes", limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise SlowBodyError(f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLargeError(f"the body may have {limit} bytes", limit) from None
    except (ConnectionError, web.RequestPayloadError) as error:
        raise BadRequestError("the body broke off") from error
    if len(body) > limit:
        raise TooLargeError(f"the body may have {limit} bytes", limit)
    return body
