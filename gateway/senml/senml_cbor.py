"""SenML-CBOR (RFC 8428 section 6): bytes to labelled fields, and resolved records to bytes.

A schema decoder, not a general one: an array of maps from small integers to scalars is all that
a pack can be, so anything else is refused at its first byte. That refuses by construction what a
general CBOR decoder has to be talked out of: tags (big numbers, decimal fractions, regular
expressions, shared references), indefinite lengths, deep nests, colliding keys, trailing bytes.
The values of labels that nobody knows may be arrays and maps; they are stepped over without
recursion and without being built. It costs about what ``cbor2.loads`` and a check of its result
do: 3 to 4 us for a pack of 90 bytes with four records.

Writing is deterministic (RFC 8949 section 4.2.1): shortest heads, shortest floats, keys in order.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.errors import BadRequestError
from gateway.senml.labels import (
    DATA,
    LABELS,
    MAX_RECORDS,
    MAX_UNKNOWN,
    NAME,
    SUM,
    TIME,
    UNIT,
    UPDATE_TIME,
    VALUE,
    check_unknown,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.senml.labels import Fields
    from gateway.senml.layout import Pack
    from gateway.senml.record import Record

_HALF = struct.Struct(">e")
_SINGLE = struct.Struct(">f")
_DOUBLE = struct.Struct(">d")
_read_double = _DOUBLE.unpack_from

_ARGUMENT_SIZE = {24: 1, 25: 2, 26: 4, 27: 8}
"""Bytes that follow the initial byte, by its low five bits (RFC 8949 section 3)."""

_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_FLOATS = {0xF9: _HALF, 0xFA: _SINGLE, 0xFB: _DOUBLE}


def decode_untrusted(payload: bytes) -> list[Fields]:
    """The maps of a pack, in order; scalars only for known labels, None for values stepped over.

    Raises:
        BadRequestError: not one well-formed CBOR array of maps, or more than 256 of them; too much
            under unknown labels.
    """
    if not payload or payload[0] >> 5 != 4:
        raise BadRequestError("a pack is an array")
    pack: list[Fields] = []
    try:
        count, at = argument(payload, 0)
        if count > MAX_RECORDS:
            raise BadRequestError(f"one of {count} records, at most {MAX_RECORDS}")
        room = MAX_UNKNOWN
        for _ in range(count):
            fields, at, room = _record(payload, at, room)
            pack.append(fields)
    except BadRequestError as error:
        raise BadRequestError(f"record {len(pack)}: {error}") from None
    except (IndexError, struct.error):
        raise BadRequestError(f"record {len(pack)}: the CBOR ends too early") from None
    except UnicodeDecodeError:
        raise BadRequestError(f"record {len(pack)}: text is not UTF-8") from None
    if at > len(payload):
        raise BadRequestError(f"record {len(pack) - 1}: the CBOR ends too early")
    if at < len(payload):
        raise BadRequestError(f"{len(payload) - at} bytes after the pack")
    return pack


def _record(payload: bytes, at: int, room: int) -> tuple[Fields, int, int]:
    """One map, and how many more items may be stepped over. The branches stand in the order of how
    often a bracelet needs them."""
    pairs = payload[at] - 0xA0
    at += 1
    if not 0 <= pairs < 24:
        raise BadRequestError("a record is a map of at most 23 labels")
    fields: Fields = {}
    for _ in range(pairs):
        label: int | str = payload[at]
        at += 1
        if label > DATA:  # type: ignore[operator]  # a byte until _unknown_label says more
            if label in _KNOWN_NEGATIVE:
                label = _KNOWN_NEGATIVE[label]
            else:
                label, at = _unknown_label(payload, at - 1)
                fields[label] = None
                at, room = _step_over(payload, at, room)
                continue
        head = payload[at]
        at += 1
        value: object
        if 0x60 <= head < 0x78:
            end = at + head - 0x60
            value = payload[at:end].decode()
            at = end  # beyond the payload if it is cut short: the next read, or the caller, sees it
        elif head < 0x18:
            value = head
        elif head == 0x18:
            value = payload[at]
            at += 1
        elif head == 0x19:
            value = payload[at] << 8 | payload[at + 1]
            at += 2
        elif head == 0xFB:
            (value,) = _read_double(payload, at)
            at += 8
        elif head == _TRUE:
            value = True
        elif head == _FALSE:
            value = False
        else:
            value, at = scalar(payload, at - 1)
        fields[label] = value
    if len(fields) != pairs:
        raise BadRequestError("a label twice")
    return fields, at, room


_KNOWN = frozenset(label for label in LABELS.values() if label >= 0)
_KNOWN_NEGATIVE = {0x1F - label: label for label in LABELS.values() if label < 0}
"""By initial byte: -1 is 0x20 (RFC 8949 section 3.1)."""


def _unknown_label(payload: bytes, at: int) -> tuple[int | str, int]:
    """A label that is to be ignored, and where its value starts."""
    if payload[at] >> 5 not in (0, 1, 3):
        raise BadRequestError("a label is an integer or text")
    label, at = scalar(payload, at)
    if isinstance(label, str):
        if label in LABELS:
            raise BadRequestError(f"label '{label}' is {LABELS[label]} in CBOR")
        check_unknown(label)
        return label, at
    assert isinstance(label, int)
    if label in _KNOWN or 0x1F - label in _KNOWN_NEGATIVE:
        raise BadRequestError(f"label {label} is not in its shortest form")
    return label, at


def argument(payload: bytes, at: int) -> tuple[int, int]:
    """The argument of the head at ``at``, and where its content starts (RFC 8949 section 3).

    Raises BadRequestError, or IndexError where the payload ends too early; as do the next two.
    """
    low = payload[at] & 0x1F
    at += 1
    if low < 24:
        return low, at
    if low not in _ARGUMENT_SIZE:
        raise BadRequestError("CBOR of indefinite length, or not well-formed")
    end = at + _ARGUMENT_SIZE[low]
    if end > len(payload):
        raise IndexError
    return int.from_bytes(payload[at:end], "big"), end


def scalar(payload: bytes, at: int) -> tuple[object, int]:
    """A number, text, bytes, boolean or null."""
    head = payload[at]
    major = head >> 5
    if major in (0, 1):
        number, at = argument(payload, at)
        return (number if major == 0 else -1 - number), at
    if major in (2, 3):
        length, at = argument(payload, at)
        end = at + length
        if end > len(payload):
            raise IndexError
        content = payload[at:end]
        return (content if major == 2 else content.decode()), end
    if head in _FLOATS:
        form = _FLOATS[head]
        return form.unpack_from(payload, at + 1)[0], at + 1 + form.size
    if head in (_FALSE, _TRUE, _NULL):
        return (None if head == _NULL else head == _TRUE), at + 1
    if major == 6:
        raise BadRequestError("CBOR tags have no place in SenML")
    raise BadRequestError("the value of a label is a number, text, bytes or a boolean")


def skip(payload: bytes, at: int) -> int:
    """Where the item at ``at`` ends."""
    return _step_over(payload, at, len(payload))[0]


def _step_over(payload: bytes, at: int, room: int) -> tuple[int, int]:
    """Where the item at ``at`` ends, and what is left of ``room`` items. Each turn takes at least
    one byte, so it always ends."""
    pending = 1
    while pending:
        if room == 0:
            raise BadRequestError(f"more than {MAX_UNKNOWN} items under labels that are not known")
        room -= 1
        pending -= 1
        major = payload[at] >> 5
        if major in (4, 5):
            count, at = argument(payload, at)
            pending += count * (major - 3)
        else:
            _, at = scalar(payload, at)
    return at, room


def encode_pack(pack: Pack) -> bytes:
    """What :func:`encode_cbor` gives for the pack's records."""
    layout = pack.layout
    if layout.fields is None:
        return encode_cbor(pack.records)
    parts = [_write_head(0x80, len(layout.fields))]
    last_time: float | None = None
    time_field = b""
    for (field, varies), value, time in zip(layout.fields, pack.values, pack.times):  # noqa: B905  # equally long by construction; 0.2 us a pack
        parts.append(field)
        if varies:
            if value.__class__ is int and 0 <= value < _SMALL:
                parts.append(_SMALL_FIELDS[value])
            else:
                parts.append(_value_field(value))
        if time != last_time:
            time_field = _number_field(TIME, time)
            last_time = time
        parts.append(time_field)
    return b"".join(parts)


def before_time(record: Record) -> tuple[bytes, bool]:
    """A record as :func:`encode_cbor` writes it, up to its time; and whether a number is to be put
    behind that. For records with a name, a unit and a value only."""
    name, unit, value, text, boolean, *_ = record
    field = _constant_part(9 - record.count(None), name, unit)
    if value is not None:
        return field, True
    if text is not None:
        return field + b"\x03" + _text(text), False
    return field + (b"\x04\xf5" if boolean else b"\x04\xf4"), False


def encode_cbor(records: Sequence[Record]) -> bytes:
    """A resolved pack in deterministic CBOR: an array, so it can be embedded as it is."""
    parts = [_write_head(0x80, len(records))]
    write = parts.append
    last_time: float | None = None
    time_field = b""
    for record in records:
        name, unit, value, text, boolean, data, total, time, update_time = record
        write(_constant_part(9 - record.count(None), name, unit))
        if value is not None:
            write(_value_field(value))
        elif text is not None:
            write(b"\x03" + _text(text))
        elif boolean is not None:
            write(b"\x04\xf5" if boolean else b"\x04\xf4")
        if total is not None:
            write(_number_field(SUM, total))
        if time != last_time:
            time_field = _number_field(TIME, time)
            last_time = time
        write(time_field)
        if update_time is not None:
            write(_number_field(UPDATE_TIME, update_time))
        if data is not None:
            write(bytes((DATA,)) + _write_head(0x40, len(data)) + data)
    return b"".join(parts)


def _write_head(major: int, argument: int) -> bytes:
    """``major`` is the initial byte without its low five bits."""
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x10000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x100000000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


def _text(text: str) -> bytes:
    content = text.encode()
    return _write_head(0x60, len(content)) + content


@lru_cache(maxsize=8192)
def _constant_part(pairs: int, name: str, unit: str | None) -> bytes:
    """Map head, name and unit: they repeat with every pack; 500 devices have about 5,000."""
    part = bytes((0xA0 + pairs, NAME)) + _text(name)
    return part if unit is None else part + bytes((UNIT,)) + _text(unit)


@lru_cache(maxsize=8192, typed=True)
def _value_field(number: int | float) -> bytes:
    """Vital signs have few different values. Typed: 97 and 97.0 are written differently."""
    return _number_field(VALUE, number)


def _number_field(label: int, number: int | float) -> bytes:
    if number.__class__ is int:
        if number >= 0:
            return bytes((label,)) + _write_head(0x00, number)
        return bytes((label,)) + _write_head(0x20, -1 - number)
    # The shortest form that gives the same number back (RFC 8949 section 4.2.1); a sum or a value
    # beyond a single float's range has been refused long before.
    single = _SINGLE.pack(number)
    if _SINGLE.unpack(single)[0] != number:
        return bytes((label, 0xFB)) + _DOUBLE.pack(number)
    if abs(number) <= _LARGEST_HALF:
        half = _HALF.pack(number)
        if _HALF.unpack(half)[0] == number:
            return bytes((label, 0xF9)) + half
    return bytes((label, 0xFA)) + single


_LARGEST_HALF = 65504.0

_SMALL = 256
_SMALL_FIELDS = tuple(_number_field(VALUE, number) for number in range(_SMALL))
"""What most vital signs are: looked up without a cache (0.3 us a pack)."""
