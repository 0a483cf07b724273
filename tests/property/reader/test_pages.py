"""Whatever a cloud store answers, the reader raises PeerError or gets on."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cose.record import Header
from gateway.errors import BadRequestError, PeerError
from gateway.lane import Lane
from gateway.reader.pages import Item, page_untrusted

ids = st.binary(min_size=16, max_size=16)
headers = st.builds(
    Header,
    id=ids,
    patient=ids,
    lane=st.sampled_from(list(Lane)),
    received_ms=st.integers(0, 253_402_300_799_999),
    epoch=ids,
)


def as_json(item: Item) -> dict[str, Any]:
    return {
        "cursor": item.cursor,
        "id": item.header.id.hex(),
        "gateway": item.gateway,
        "patient": item.header.patient.hex(),
        "lane": item.header.lane,
        "received_ms": item.header.received_ms,
        "epoch": item.header.epoch.hex(),
        "record": base64.b64encode(item.record).decode(),
    }


ITEM = Item(7, "gateway-1", Header(b"i" * 16, b"p" * 16, Lane.ROUTINE, 5, b"e" * 16), b"sealed")

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.text(max_size=8), headers, st.binary(max_size=40)), max_size=4))
def test_a_page_is_read_back(found: list[tuple[str, Header, bytes]]) -> None:
    """All fields of all records."""
    items = tuple(Item(number, *each) for number, each in enumerate(found, start=3))
    body = json.dumps({"records": [as_json(item) for item in items], "next": 99}).encode()
    assert page_untrusted(body, after=2) == (items, 99)


@given(st.binary())
def test_bytes_are_refused_as_peer_error_only(body: bytes) -> None:
    """Not JSON, mostly."""
    with pytest.raises(PeerError):
        page_untrusted(body, after=0)


@given(plain, plain)
def test_any_json_is_refused_as_peer_error_only(records: Any, following: Any) -> None:
    """Or is a page that leads on."""
    body = json.dumps({"records": records, "next": following}).encode()
    try:
        page = page_untrusted(body, after=5)
    except PeerError:
        return
    assert page.next is None or page.next > 5


@given(st.sampled_from(sorted(as_json(ITEM))), plain)
def test_a_wrong_field_is_refused_as_peer_error_only(field: str, value: Any) -> None:
    """One field of a good record replaced by anything."""
    body = json.dumps({"records": [as_json(ITEM) | {field: value}], "next": None}).encode()
    try:
        page = page_untrusted(body, after=0)
    except PeerError:
        return
    [item] = page.items
    assert item.cursor > 0
    assert len(item.header.id) == len(item.header.patient) == len(item.header.epoch) == 16


def test_deep_nesting_is_refused() -> None:
    """It costs the store a kilobyte; it must not cost the reader its stack."""
    with pytest.raises(BadRequestError):
        page_untrusted(b'{"records": ' + b"[" * 100_000, after=0)


@pytest.mark.parametrize(
    ("cursors", "following"),
    [([5], None), ([7, 7], None), ([8, 7], None), ([], 5), ([], 4), ([7, 9], 8)],
)
def test_a_page_that_leads_back_is_refused(cursors: list[int], following: int | None) -> None:
    """Or the reader would go round in circles for ever."""
    records = [as_json(ITEM._replace(cursor=cursor)) for cursor in cursors]
    with pytest.raises(BadRequestError):
        page_untrusted(json.dumps({"records": records, "next": following}).encode(), after=5)


def test_a_page_of_too_many_records_is_refused() -> None:
    """More than was asked for."""
    records = [as_json(ITEM._replace(cursor=number)) for number in range(1, 1002)]
    with pytest.raises(BadRequestError, match="1000"):
        page_untrusted(json.dumps({"records": records, "next": None}).encode(), after=0)
