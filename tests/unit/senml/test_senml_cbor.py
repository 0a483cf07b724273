"""CBOR that is not SenML, and the deterministic writer."""

from __future__ import annotations

import cbor2
import pytest

from gateway.errors import BadRequestError
from gateway.senml.record import Record
from gateway.senml.senml_cbor import decode_untrusted, encode_cbor

PACK = cbor2.dumps([{-3: 1.79e9, 0: "hr", 1: "1/min", 2: 72}, {0: "contact", 4: True}])


def item(hexadecimal: str) -> bytes:
    """A pack whose second record's value is these bytes."""
    return b"\x82" + cbor2.dumps({0: "a", 2: 1}) + b"\xa2\x00\x61b\x02" + bytes.fromhex(hexadecimal)


BOMBS = {
    "empty": b"",
    "depth": b"\x81" * 8000,
    "depth of maps": b"\x81" + b"\xa1\x61x" * 2000,
    "array of 2^63": b"\x9b\x80\x00\x00\x00\x00\x00\x00\x00",
    "map of 2^63": b"\x81\xbb\x80\x00\x00\x00\x00\x00\x00\x00",
    "map of 24": b"\x81\xb8\x18" + b"".join(bytes((0x18, n, 0)) for n in range(100, 124)),
    "text of 2^63": item("7b8000000000000000"),
    "bytes of 2^63": item("5b8000000000000000"),
    "bytes of 2^64-1": item("5bffffffffffffffff"),
    "unknown array of 2^64-1": b"\x81\xa1\x61x\x9b" + b"\xff" * 8,
    "indefinite array": b"\x9f\xa2\x00\x61a\x02\x01\xff",
    "indefinite map": b"\x81\xbf\x00\x61a\x02\x01\xff",
    "indefinite text": item("7f6161ff"),
    "indefinite bytes": item("5f4161ff"),
    "indefinite in the unknown": b"\x81\xa1\x61x\x9f\xff",
    "break": item("ff"),
    "reserved 28": item("1c"),
    "undefined": item("f7"),
    "simple 16": item("f0"),
    "simple 255": item("f8ff"),
    "array for a value": item("80"),
    "map for a value": item("a0"),
    "trailing byte": PACK + b"\x00",
    "trailing pack": PACK + PACK,
    "duplicate label": b"\x81\xa3\x00\x61a\x02\x01\x02\x02",
    "duplicate in other form": b"\x81\xa3\x00\x61a\x02\x01\x18\x02\x02",
    "label -1 in long form": b"\x81\xa1\x38\x00\x0a",
    "duplicate unknown label": b"\x81\xa2\x61x\x00\x61x\x00",
    "bytes for a label": b"\x81\xa1\x41a\x00",
    "boolean for a label": b"\x81\xa1\xf5\x00",
    "float for a label": b"\x81\xa1\xf9\x00\x00\x61a",
    "array for a label": b"\x81\xa1\x80\x00",
    "JSON's label": b"\x81\xa1\x61n\x61a",
    "text not UTF-8": item("61ff"),
    "unknown text not UTF-8": b"\x81\xa1\x61x\x61\xff",
    "half a double": item("fb4052"),
    "no array": cbor2.dumps({0: "a", 2: 1}),
    "number": b"\x01",
    "record no map": b"\x81\x01",
    **{
        f"tag {tag}": item((cbor2.dumps(cbor2.CBORTag(tag, inner))).hex())
        for tag, inner in [
            (0, "2026-01-01T00:00:00Z"), (1, 0), (2, bytes(9)), (3, bytes(9)), (4, [2**32, 1]),
            (5, [2**32, 1]), (25, 0), (28, []), (29, 0), (30, [1, 3]), (35, "(a+)+$"),
            (258, [1, 2]), (55799, 1),
        ]
    },
    "tag about the pack": b"\xd9\xd9\xf7" + PACK,
    "257 items in the unknown": b"\x81\xa1\x61x\x99\x01\x00" + b"\0" * 256,
    "too much in the unknown of two": b"\x82" + (b"\xa1\x61x\x98\x80" + b"\0" * 128) * 2,
    "tag in the unknown": b"\x81\xa1\x61x\xd8\x23\x63(a+",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_not_a_pack_is_refused(name: str) -> None:
    """At its first wrong byte, with one kind of error."""
    with pytest.raises(BadRequestError):
        decode_untrusted(BOMBS[name])


def test_colliding_labels_cannot_be_many() -> None:
    """Multiples of 2^61 - 1 have one hash; a map is refused before its 24th label."""
    labels = [n * (2**61 - 1) for n in range(1, 8)]
    assert len(decode_untrusted(cbor2.dumps([dict.fromkeys(labels, 0)]))[0]) == 7
    with pytest.raises(BadRequestError, match="at most 23 labels"):
        decode_untrusted(cbor2.dumps([{n * (2**61 - 1): 0 for n in range(800)}]))


@pytest.mark.parametrize("cut", range(len(PACK)))
def test_a_pack_cut_short_is_refused(cut: int) -> None:
    """Wherever it is cut, also in the middle of its last text."""
    for payload in (PACK, cbor2.dumps([{0: "contact"}]), cbor2.dumps([{3: "x" * 40}])):
        with pytest.raises(BadRequestError):
            decode_untrusted(payload[: min(cut, len(payload) - 1)])


@pytest.mark.parametrize(
    "value",
    [0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**53, -1, -24, -25, -257, -(2**40), 0.5, 1.1, 1e-9,
     65504.0, 65505.0, 3.4e38, "", "x" * 23, "x" * 24, "\u00e9" * 200, b"", b"\x00" * 300, True,
     False],
)  # fmt: skip
def test_scalars_are_read_as_cbor2_writes_them(value: object) -> None:
    """Every length of head, every width of float."""
    for canonical in (False, True):
        payload = cbor2.dumps([{0: "a", 2: value}], canonical=canonical)
        assert decode_untrusted(payload) == [{0: "a", 2: value}]


def test_the_error_names_the_record() -> None:
    """The first record is good, the second is not."""
    with pytest.raises(BadRequestError, match="record 1: CBOR tags"):
        decode_untrusted(BOMBS["tag 35"])
    with pytest.raises(BadRequestError, match="label 'n' is 0 in CBOR"):
        decode_untrusted(BOMBS["JSON's label"])


def test_writing_is_deterministic() -> None:
    """RFC 8949 section 4.2.1: what cbor2's canonical form gives for the same map."""
    records = [
        Record("b/hr", "1/min", 72, None, None, None, None, 1_790_000_001.0, None),
        Record("b/hr", "1/min", 72.0, None, None, None, None, 1_790_000_000.0, 60),
        Record("b/temp", "Cel", 36.6, None, None, None, None, 1_790_000_000.25, 0.5),
        Record("b/x", None, -1000, None, None, None, 70000.0, 1_790_000_000.25, None),
        Record("b/y", None, 1.0000001192092896, None, None, None, None, 1_790_000_128.0, None),
        Record("b/rhythm", None, None, "AFIB" * 10, None, None, None, 1_790_000_000.25, None),
        Record("b/contact", None, None, None, True, None, None, 1_790_000_000.25, None),
        Record("b/fall", None, None, None, False, None, None, 1_790_000_000.25, None),
        Record("b/raw", None, None, None, None, bytes(300), None, 1_790_000_000.25, None),
    ]
    maps = []
    for r in records:
        fields = zip((0, 1, 2, 3, 4, 8, 5, 6, 7), r, strict=True)
        maps.append({label: value for label, value in sorted(fields) if value is not None})
    assert encode_cbor(records) == cbor2.dumps(maps, canonical=True)
    assert encode_cbor(records * 30)[:3] == b"\x99\x01\x0e"
