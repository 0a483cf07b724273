"""Whatever the bytes: a pack or a PeerError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.senml import senml_cbor, senml_json
from gateway.senml.pack import decode_resolved_untrusted, resolve_untrusted
from gateway.senml.senml_cbor import encode_cbor
from gateway.senml.senml_json import to_json

WALL = 1_790_000_000.0
LABELS = ["bver", "bn", "bt", "bu", "bv", "bs", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"]
NUMBERS = [-1, -2, -3, -4, -5, -6, 0, 1, 2, 3, 4, 5, 6, 7, 8]
TO_NUMBER = dict(zip(LABELS, NUMBERS, strict=True))

numbers = st.one_of(
    st.integers(-(10**15), 10**15), st.floats(-1e15, 1e15, allow_nan=False, allow_subnormal=True)
)
times = st.one_of(st.integers(-1000, 1000), st.floats(1.0e9, 4e9), st.floats(-100, 100))
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9\-._]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("boot", "seq")
)
values = st.one_of(
    st.fixed_dictionaries({"v": numbers}),
    st.fixed_dictionaries({"vs": st.text(st.characters(codec="utf-8"), max_size=40)}),
    st.fixed_dictionaries({"vb": st.booleans()}),
    st.fixed_dictionaries({"s": numbers}),
)
records = st.builds(
    lambda name, value, rest: {"n": name, **value, **rest},
    names,
    values,
    st.fixed_dictionaries(
        {}, optional={"u": st.sampled_from(["1/min", "/100", "ms"]), "t": times, "ut": times}
    ),
)
packs = st.lists(records, min_size=1, max_size=8)
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.integers(-9, 12), st.text(max_size=3)), inner, max_size=4),
        st.builds(cbor2.CBORTag, st.sampled_from([1, 2, 4, 28, 35, 258, 99999]), inner),
    ),
    max_leaves=8,
)
like_packs = st.lists(
    st.dictionaries(st.sampled_from(NUMBERS), anything, max_size=6), min_size=1, max_size=4
)
like_json = st.lists(
    st.dictionaries(
        st.sampled_from([*LABELS, "x", "x_"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
        max_size=6,
    ),
    min_size=1,
    max_size=4,
)


def as_cbor(pack: list[dict[str, Any]]) -> bytes:
    return cbor2.dumps([{TO_NUMBER[label]: v for label, v in fields.items()} for fields in pack])


def mutate(payload: bytes, changes: list[tuple[int, int, str]]) -> bytes:
    """Change, insert, delete bytes, or cut."""
    data = bytearray(payload)
    for where, byte, what in changes:
        at = where % (len(data) or 1)
        if what == "change" and data:
            data[at] = byte
        elif what == "insert":
            data.insert(at, byte)
        elif what == "delete" and data:
            del data[at]
        else:
            del data[at:]
    return bytes(data)


mutations = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.integers(0, 255),
        st.sampled_from(["change", "change", "insert", "delete", "cut"]),
    ),
    min_size=1,
    max_size=4,
)


def survive(payload: bytes) -> None:
    """Every decoder takes or refuses it; what is taken can be written and read again."""
    for content_format in (110, 112):
        with contextlib.suppress(PeerError):
            pack = resolve_untrusted(payload, content_format, device="d", wall=WALL)
            assert decode_resolved_untrusted(encode_cbor(pack.records)) == pack.records
            json.dumps(to_json(pack.records), allow_nan=False).encode()
    with contextlib.suppress(PeerError):
        decode_resolved_untrusted(payload)


@given(st.binary(max_size=200))
def test_any_bytes(payload: bytes) -> None:
    survive(payload)


@given(st.one_of(anything, like_packs).map(cbor2.dumps))
def test_any_cbor(payload: bytes) -> None:
    survive(payload)


@given(like_json.map(lambda pack: json.dumps(pack).encode()))
def test_any_json(payload: bytes) -> None:
    survive(payload)


@given(packs, mutations)
def test_mutated_packs(pack: list[dict[str, Any]], changes: list[tuple[int, int, str]]) -> None:
    survive(mutate(as_cbor(pack), changes))
    survive(mutate(json.dumps(pack).encode(), changes))


@given(packs)
def test_both_representations_mean_the_same(pack: list[dict[str, Any]]) -> None:
    """And a resolved pack survives writing and reading."""
    from_cbor = resolve_untrusted(as_cbor(pack), 112, device="d", wall=WALL)
    from_json = resolve_untrusted(json.dumps(pack).encode(), 110, device="d", wall=WALL)
    assert repr(from_cbor) == repr(from_json)
    assert decode_resolved_untrusted(encode_cbor(from_cbor.records)) == from_cbor.records
    for record, fields in zip(from_cbor.records, pack, strict=True):
        assert record.name == f"d/{fields['n']}"


@given(packs)
def test_the_reader_agrees_with_cbor2(pack: list[dict[str, Any]]) -> None:
    """Our schema decoder against the general one, on what it writes."""
    payload = as_cbor(pack)
    assert senml_cbor.decode_untrusted(payload) == cbor2.loads(payload)
    assert senml_json.decode_untrusted(json.dumps(pack).encode()) == cbor2.loads(payload)


@given(packs)
def test_writing_agrees_with_cbor2s_canonical_form(pack: list[dict[str, Any]]) -> None:
    """RFC 8949 section 4.2.1."""
    written = encode_cbor(resolve_untrusted(as_cbor(pack), 112, device="d", wall=WALL).records)
    assert written == cbor2.dumps(cbor2.loads(written), canonical=True)
