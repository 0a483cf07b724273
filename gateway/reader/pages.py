"""What the cloud store answers, read strictly: it is a stranger who may not be believed.

The store cannot read a record, but it could repeat, reorder or invent answers. What is checked
here is the shape, and that a reader who follows the pages always gets on; what is in a record is
believed only after :mod:`gateway.reader.opening` has verified it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from gateway.cose.record import MAX_RECEIVED_MS, Header
from gateway.errors import BadRequestError
from gateway.lane import Lane

MAX_RECORDS = 1000

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_CURSOR = (1 << 63) - 1


class Item(NamedTuple):
    """One sealed record as the cloud store gave it: nothing in it is verified yet."""

    cursor: int
    gateway: str
    header: Header
    record: bytes


class Page(NamedTuple):
    """Records in the store's order; ``next`` is where the next page starts, None at the end."""

    items: tuple[Item, ...]
    next: int | None


def page_untrusted(body: bytes, *, after: int) -> Page:
    """A page asked for with ``after``. Raises BadRequestError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError("the page is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequestError("the page is not an object")
    records = document.get("records")
    if not isinstance(records, list) or len(records) > MAX_RECORDS:
        raise BadRequestError(f"the page has no list of at most {MAX_RECORDS} records")
    items = tuple(_item(record) for record in records)
    cursor = after
    for item in items:
        if item.cursor <= cursor:
            raise BadRequestError("the page is out of order")
        cursor = item.cursor
    following = document.get("next")
    if following is not None:
        following = _number(document, "next", _MAX_CURSOR)
        if following <= after or following < cursor:
            raise BadRequestError("the page leads back")
    return Page(items, following)


def _item(record: object) -> Item:
    if not isinstance(record, dict):
        raise BadRequestError("a record of the page is not an object")
    try:
        lane = Lane(_text(record, "lane"))
        sealed = base64.b64decode(_text(record, "record"), validate=True)
    except (ValueError, binascii.Error):
        raise BadRequestError("a record of the page has a wrong lane or is not base64") from None
    return Item(
        cursor=_number(record, "cursor", _MAX_CURSOR),
        gateway=_text(record, "gateway"),
        header=Header(
            id=_id(record, "id"),
            patient=_id(record, "patient"),
            lane=lane,
            received_ms=_number(record, "received_ms", MAX_RECEIVED_MS),
            epoch=_id(record, "epoch"),
        ),
        record=sealed,
    )


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise BadRequestError(f"{key!r} is not a text")
    return value


def _id(record: dict[str, Any], key: str) -> bytes:
    text = _text(record, key)
    if not _ID.fullmatch(text):
        raise BadRequestError(f"{key!r} is not 32 hexadecimal digits")
    return bytes.fromhex(text)


def _number(record: dict[str, Any], key: str, limit: int) -> int:
    value = record.get(key)
    if type(value) is not int or not 0 <= value <= limit:
        raise BadRequestError(f"{key!r} is not a number up to {limit}")
    return value
