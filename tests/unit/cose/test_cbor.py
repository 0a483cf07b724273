from __future__ import annotations

import cbor2
import pytest

from gateway.cose import cbor
from gateway.errors import BadRequestError, TooLargeError


@pytest.mark.parametrize("value", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])
def test_head_is_the_shortest_form(value: int) -> None:
    """RFC 8949 section 4.2.1, at every border between two lengths."""
    assert cbor.head(cbor.UINT, value) == cbor2.dumps(value)
    assert cbor.Reader(cbor.head(cbor.TAG, value)).head(cbor.TAG) == value


@pytest.mark.parametrize(
    "encoded", ["1817", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1f", "1c", "18", "1900", ""]
)
def test_head_refuses_other_forms(encoded: str) -> None:
    """Longer than needed, indefinite, reserved, cut off."""
    with pytest.raises(BadRequestError):
        cbor.Reader(bytes.fromhex(encoded)).head(cbor.UINT)


def test_strings_are_bounded_before_they_are_copied() -> None:
    reader = cbor.Reader(cbor.byte_string(bytes(100)))
    with pytest.raises(TooLargeError):
        reader.byte_string(99)
    with pytest.raises(BadRequestError, match="too long"):
        cbor.Reader(cbor.text_string("x" * 100)).text(99)
    with pytest.raises(BadRequestError, match="early"):
        cbor.Reader(bytes.fromhex("5b7fffffffffffffff")).byte_string(2**63)
    with pytest.raises(BadRequestError, match="UTF-8"):
        cbor.Reader(b"\x62\xff\xff").text(10)


@pytest.mark.parametrize(
    "encoded",
    [
        "c11a514b67b0",  # 1: time
        "c48221196ab3",  # 4: decimal fraction
        "d81c8101",  # 28: shared value
        "d8236161",  # 35: regular expression
        "d9d9f7a0",  # 55799: self-described
        "d2a0",  # 18: COSE_Sign1, which cbor2 does not know
        "a101c240",  # within a map
    ],
)
def test_no_tag_is_decoded(encoded: str) -> None:
    """Neither those that cbor2 gives a meaning to, nor the others."""
    with pytest.raises(BadRequestError):
        cbor.decode_untrusted(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "encoded",
    ["a201010102", "a20101180102", "bf0101ff", "9fff", "a0a0", "a0" + "00", "a101", "a18001f5", ""],
)
def test_items_are_decoded_strictly(encoded: str) -> None:
    """Duplicate keys in two forms, indefinite lengths, trailing bytes, cut off."""
    with pytest.raises(BadRequestError):
        cbor.decode_untrusted(bytes.fromhex(encoded))


def test_items_are_bounded_in_depth_and_size() -> None:
    assert cbor.decode_untrusted(b"\x81" * 7 + b"\x80") == [[[[[[[[]]]]]]]]
    with pytest.raises(BadRequestError):
        cbor.decode_untrusted(b"\x81" * 20 + b"\x80")
    large = cbor.encode(dict.fromkeys(range(cbor.MAX_ITEM_BYTES), 0))
    with pytest.raises(BadRequestError):
        cbor.decode_untrusted(large)


def test_items_are_counted_before_any_is_made() -> None:
    """Themselves included, at any depth, keys too."""
    assert cbor.decode_untrusted(cbor.encode([[]] * 511)) == [[]] * 511
    for item in ([[]] * 512, dict.fromkeys(range(256), 0), [[0] * 255, [0] * 255]):
        with pytest.raises(BadRequestError, match="too many"):
            cbor.decode_untrusted(cbor.encode(item))
    reader = cbor.Reader(cbor.encode([0] * 600))
    assert reader.item(parts=601) == [0] * 600


@pytest.mark.parametrize("value", [{True: 3}, {1.0: 3}, {None: 3}, {b"1": 3}, [], 1])
def test_labels_are_integers_or_text(value: object) -> None:
    """True and 1.0 are equal to 1 in Python, and must not pass for the label 1."""
    decoded = cbor.decode_untrusted(cbor2.dumps(value))
    with pytest.raises(BadRequestError):
        cbor.mapping_untrusted(decoded)
