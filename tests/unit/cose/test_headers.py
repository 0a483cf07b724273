from __future__ import annotations

import pytest

from gateway.cose import cbor, headers
from gateway.errors import BadRequestError


def layer(protected: object, unprotected: object) -> headers.Headers:
    encoded = cbor.byte_string(cbor.encode(protected)) + cbor.encode(unprotected)
    return headers.read_untrusted(cbor.Reader(encoded))


def test_both_buckets_are_read() -> None:
    found = layer({1: 3, 4: b"kid"}, {5: b"iv"})
    assert found.byte_string(headers.KID) == b"kid"
    assert found.byte_string(headers.IV) == b"iv"
    assert found.encoded == cbor.encode({1: 3, 4: b"kid"})
    found.require(headers.A256GCM)


def test_an_empty_protected_bucket_is_an_empty_string() -> None:
    """RFC 9052 section 3: senders encode an empty map as h''."""
    assert headers.read_untrusted(cbor.Reader(b"\x40\xa0")).protected == {}


@pytest.mark.parametrize(
    ("protected", "unprotected"),
    [({}, {1: 3}), ({1: 1}, {}), ({1: 3.0}, {}), ({1: "A256GCM"}, {}), ({1: True}, {})],
)
def test_the_algorithm_must_be_ours_and_protected(protected: object, unprotected: object) -> None:
    with pytest.raises(BadRequestError, match="algorithm"):
        layer(protected, unprotected).require(headers.A256GCM)


@pytest.mark.parametrize(
    ("protected", "unprotected"),
    [
        ({1: 3, 4: b"a"}, {4: b"b"}),  # RFC 9052 section 3
        ({1: 3, 2: [99], 99: 0}, {}),  # crit
        ([], {}),
        ({1: 3}, []),
    ],
)
def test_buckets_are_refused(protected: object, unprotected: object) -> None:
    with pytest.raises(BadRequestError):
        layer(protected, unprotected)


def test_a_missing_byte_string_is_named() -> None:
    with pytest.raises(BadRequestError, match="header 5"):
        layer({1: 3}, {5: "text"}).byte_string(headers.IV)
