"""Whatever a device has sent before, a pack means what it would mean as the first."""

from __future__ import annotations

import math
import struct
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import cbor2
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.senml import senml_cbor
from gateway.senml.layout import Pack
from gateway.senml.pack import resolve, resolve_untrusted

if TYPE_CHECKING:
    from collections.abc import Callable

WALL = 1_790_000_000.0
DEVICE = "@device@"
"""Stands for the name of a device that has sent nothing before; as long as one."""

device_numbers = count()

HEADS = {0: "", 1: ">B", 2: ">H", 4: ">I", 8: ">Q"}
FORMS = {0xF9: ">e", 0xFA: ">f", 0xFB: ">d"}


def integer(number: int, width: int) -> bytes:
    """In ``width`` bytes, or in as few more as it needs (RFC 8949 section 3)."""
    major, argument = (0x00, number) if number >= 0 else (0x20, -1 - number)
    if argument < 24 and width == 0:
        return bytes((major | argument,))
    for low, (size, form) in enumerate(list(HEADS.items())[1:], 24):
        if size >= width and argument < 1 << 8 * size:
            return bytes((major | low,)) + struct.pack(form, argument)
    raise AssertionError(number)


def real(number: float, head: int) -> bytes:
    """Half, single or double; double if it is beyond the others."""
    try:
        return bytes((head,)) + struct.pack(FORMS[head], number)
    except OverflowError:
        return b"\xfb" + struct.pack(">d", number)


def integers(low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.builds(integer, st.integers(low, high), st.sampled_from(list(HEADS)))


def reals(low: float, high: float) -> st.SearchStrategy[bytes]:
    return st.builds(real, st.floats(low, high), st.sampled_from(list(FORMS)))


sound = {
    "v": integers(0, 300) | integers(-(10**15), 10**15) | reals(-300, 300) | reals(-1e15, 1e15),
    "t": integers(-100, 0) | reals(-100, 0) | integers(2**28, 2**31) | reals(1.7e9, 1.8e9),
    "counter": integers(0, 10**15) | integers(0, 30) | st.integers(0, 999).map(
        lambda number: real(number, 0xFB)
    ),
}  # fmt: skip
anything = st.one_of(
    integers(-(2**64), 2**64 - 1),
    st.builds(real, st.floats(), st.sampled_from(list(FORMS))),
    st.sampled_from([True, False, None, "7", "", b"7", [], [1], {}, 2**70]).map(cbor2.dumps),
    st.sampled_from([b"", b"\xf7", b"\x1c", b"\x5f", b"\xff", b"\x18"]),
)
odd = {
    "v": anything
    | st.sampled_from([math.nan, math.inf, -math.inf, 1e15 + 1, 1e300]).map(
        lambda number: real(number, 0xFB)
    ),
    "t": anything
    | st.sampled_from([-(2**28), 1 - 2**28, 2**28 - 1, 2**28, 2**32 - 1, 2**32]).map(
        lambda number: integer(number, 8)
    ),
    "counter": anything | integers(-9, -1) | reals(-2, 9),
}


Part = bytes | str
"""Bytes that are the same in each pack of a kind, or what kind of number stands there."""


class Kind(NamedTuple):
    """What is constant in the packs of one kind: maps of labels, each followed by its value."""

    first: list[list[Part]]
    beat: list[list[Part]]
    """Records that are repeated, each with numbers of its own."""


units = st.sampled_from(["1/min", "ms", "Cel"]).map(lambda unit: b"\x01" + cbor2.dumps(unit))
fixed_values = st.sampled_from([(4, True), (4, False), (3, "N"), (3, "VF")]).map(
    lambda field: bytes((field[0],)) + cbor2.dumps(field[1])
)
strange_fields: st.SearchStrategy[list[Part]] = st.sampled_from(
    [
        [b"\x24", "v"],  # bv
        [b"\x05", "v"],  # s
        [b"\x07", "v"],  # ut
        [b"\x18\x63", "v"],
        [b"\x62zz\x82\x01\xa1\x00\xf6"],
    ]
)


@st.composite
def record_kinds(draw: st.DrawFn, names: st.SearchStrategy[str]) -> list[Part]:
    """The parts of a map, its head first; mostly as a node would send it."""
    name = draw(names)
    fields: list[list[Part]] = [[b"\x00" + cbor2.dumps(name)]]
    if name.rpartition("/")[2] in ("boot", "seq"):
        fields.append([b"\x02", "counter"])
    else:
        fields.append(draw(st.just([b"\x02", "v"]) | fixed_values.map(lambda field: [field])))
    if draw(st.booleans()):
        fields.append([draw(units)])
    if draw(st.booleans()):
        fields.append([b"\x06", "t"])
    if draw(st.sampled_from([False] * 5 + [True])):
        fields.append([b"\x22", "t"])
    if draw(st.sampled_from([False] * 7 + [True])):
        fields.append(draw(strange_fields))
    fields = draw(st.permutations(fields))
    return [bytes((0xA0 + len(fields),)), *(part for field in fields for part in field)]


usual_names = st.sampled_from(
    ["hr", "resp", "contact", "boot", "seq", f"{DEVICE}/hr", f"{DEVICE}/boot", "reboot"]
)


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    first = draw(st.lists(record_kinds(usual_names), min_size=1, max_size=3))
    beat = draw(st.lists(record_kinds(st.sampled_from(["rr", "beat", "seq"])), max_size=2))
    base_name = draw(st.sampled_from([None, None, DEVICE, f"{DEVICE}/", f"{DEVICE}:"]))
    head, *rest = first[0]
    assert isinstance(head, bytes)
    extra: list[Part] = []
    if base_name is not None and not any(DEVICE.encode() in p for p in rest if type(p) is bytes):
        extra.append(b"\x21" + cbor2.dumps(base_name))
    if draw(st.booleans()):
        extra.append(b"\x20" + draw(st.sampled_from([b"\x0a", b"\x18\x1a"])))
    first[0] = [bytes((head[0] + len(extra),)), *extra, *rest]
    return Kind(first, beat)


mutations = st.tuples(
    st.integers(0, 400), st.integers(0, 1), st.sampled_from([b"", b"\x00"]) | st.binary(max_size=1)
)


@st.composite
def payloads(draw: st.DrawFn, kind: Kind, *, spoilt: bool) -> bytes:
    """One pack of the kind: other numbers, another count of beats; one thing wrong if spoilt."""
    records = [*kind.first, *(kind.beat * draw(st.integers(0, 2)))]
    slots = sum(type(part) is str for record in records for part in record)
    wrong = draw(st.integers(0, slots)) if spoilt else -1
    data = bytes((0x80 + len(records),))
    for part in (part for record in records for part in record):
        if isinstance(part, bytes):
            data += part
        else:
            data += draw(odd[part] if wrong == slots else sound[part])
            slots -= 1
    if wrong == 0:
        at, deleted, inserted = draw(mutations)
        data = data[:at] + inserted + data[at + deleted :]
    return data


@st.composite
def histories(draw: st.DrawFn) -> list[bytes]:
    """Packs of a device that knows its trade, and some that are spoilt."""
    known = draw(st.lists(kinds(), min_size=1, max_size=2))
    first = [draw(payloads(kind, spoilt=False)) for kind in known]
    later = draw(st.lists(st.tuples(st.sampled_from(known), st.booleans()), min_size=4, max_size=6))
    return first + [draw(payloads(kind, spoilt=spoilt)) for kind, spoilt in later]


def outcome(read: Callable[[], Pack]) -> str:
    """The pack as text, which tells 1 from 1.0 and from True, or the refusal; as text and as bytes
    it must be the same pack."""
    try:
        pack = read()
        assert senml_cbor.encode_pack(pack) == senml_cbor.encode_cbor(pack.records)
        return repr(pack)
    except PeerError as error:
        return f"{type(error).__name__}: {error}"


@given(histories(), st.lists(st.floats(1.7e9, 1.9e9), min_size=8, max_size=8))
def test_what_came_before_changes_nothing(history: list[bytes], walls: list[float]) -> None:
    """The same pack to the last bit, or the same refusal in the same words."""
    device = f"b{next(device_numbers):07}"
    accepted = 0
    for template, wall in zip(history, walls, strict=False):
        payload = template.replace(DEVICE.encode(), device.encode())

        def general(payload: bytes = payload, wall: float = wall) -> Pack:
            return resolve(senml_cbor.decode_untrusted(payload), device, wall)

        def remembering(payload: bytes = payload, wall: float = wall) -> Pack:
            return resolve_untrusted(payload, 112, device=device, wall=wall)

        expected = outcome(general)
        assert outcome(remembering) == expected
        accepted += expected.startswith("Pack(")
    event(f"{accepted} of {len(history)} accepted")
