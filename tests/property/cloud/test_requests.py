"""Whatever a caller sends, the decoders of the cloud API raise PeerError or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.requests import cursor_untrusted, id_untrusted, last_event_id_untrusted, query_untrusted
from cloud.store import PAGE_RECORDS
from gateway.errors import BadRequestError, PeerError
from gateway.lane import Lane

KNOWN = frozenset({"after", "limit", "lane", "patient"})
HEX = "0123456789abcdefABCDEF"

odd_text = st.text() | st.text("0123456789-+_ ٣", max_size=20) | st.text(HEX, max_size=33)


@given(odd_text)
def test_an_id_is_32_hexadecimal_digits_or_refused(text: str) -> None:
    """Nothing that int() or fromhex() would forgive."""
    try:
        found = id_untrusted(text)
    except PeerError:
        return
    assert found.hex() == text.lower()


@given(st.binary(min_size=16, max_size=16))
def test_every_id_is_understood(record_id: bytes) -> None:
    """Both ways of writing it."""
    assert id_untrusted(record_id.hex()) == id_untrusted(record_id.hex().upper()) == record_id


@given(odd_text)
def test_a_cursor_fits_the_database_or_is_refused(text: str) -> None:
    """SQLite's integers have 63 bits."""
    try:
        found = cursor_untrusted(text, "after")
    except PeerError:
        return
    assert 0 <= found < 1 << 63
    assert text.isascii()


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(max_size=8), odd_text))
def test_a_query_is_in_its_limits_or_refused(parameters: dict[str, str]) -> None:
    """Whatever stands in the address."""
    try:
        query = query_untrusted(parameters, KNOWN)
    except PeerError:
        return
    assert set(parameters) <= KNOWN
    assert 1 <= query.limit <= PAGE_RECORDS
    assert query.after >= 0
    assert query.patient is None or len(query.patient) == 16


@given(st.integers(0, 10**18 - 1), st.integers(1, PAGE_RECORDS), st.sampled_from(list(Lane)))
def test_a_query_is_understood(after: int, limit: int, lane: Lane) -> None:
    """All parameters at once."""
    parameters = {"after": str(after), "limit": str(limit), "lane": lane.value}
    query = query_untrusted(parameters, KNOWN)
    assert query == (after, limit, lane, None)


@given(odd_text)
def test_a_last_event_id_is_a_cursor_or_refused(text: str) -> None:
    """It comes from the listener, who may have got it from anywhere."""
    assert last_event_id_untrusted({}) is None
    try:
        found = last_event_id_untrusted({"Last-Event-ID": text})
    except PeerError:
        return
    assert found == int(text)


def test_a_parameter_that_is_not_known_is_not_ignored() -> None:
    """A mistyped ``lane`` must not widen the answer."""
    with pytest.raises(BadRequestError, match="unknown parameter"):
        query_untrusted({"lanes": "routine"}, KNOWN)
