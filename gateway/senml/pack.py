"""A pack of SenML records: read, checked, resolved (RFC 8428 section 4.6).

Theory: the two readers give the same labelled fields; everything after that is written once. A
number is checked by one comparison with a finite range, which also
refuses NaN and the infinities. Names repeat with every pack of a device, so the checked full name
is cached; the cache has a cap, and an attacker who fills it only makes names slow again.

Whose name: a device is known by its association, so records are *its* records whatever they say,
and a name can only agree or be refused. ``bn`` is the device's id, with or without a separator. A
full name without ``bn`` is recognised by its ``/`` or ``:`` and must start with the device's id:
a bracelet that was given another one's name must learn of it, not fill a bed with nonsense that
nobody judges.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    TooLargeError,
    UnsupportedContentFormatError,
)
from gateway.senml import senml_cbor, senml_json
from gateway.senml.labels import (
    BASE_NAME,
    BASE_SUM,
    BASE_TIME,
    BASE_UNIT,
    BASE_VALUE,
    BASE_VERSION,
    BOOLEAN,
    DATA,
    NAME,
    SUM,
    TEXT,
    TIME,
    UNIT,
    UPDATE_TIME,
    VALUE,
    shorten,
)
from gateway.senml.record import Record
from gateway.senml.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.senml.labels import Fields
    from gateway.senml.shapes import Slots

SENML_JSON = 110
SENML_CBOR = 112
"""Content-Formats (RFC 8428 section 12.3)."""

MAX_PAYLOAD = 8192
"""Bytes of a node's pack: what a bracelet collects in some minutes out of reach."""

MAX_RESOLVED = 65536
"""Bytes of a resolved pack: every one of 256 records repeats the device's name and the time."""

MAX_NUMBER = 1e15
"""No vital sign is near it, and every integer below it is exact in a double (2^53 is 9e15)."""

EARLIEST_ABSOLUTE = 2**28
"""Times below are relative to now (RFC 8428 section 4.5.3)."""

LATEST_TIME = 2**32
"""The year 2106: a time after it is a fault."""

_VERSIONS = frozenset((*range(1, 11), 26))
"""Up to 10 (RFC 8428 section 4.4), and 10 with feature 4, secondary units (RFC 9100 section 3):
``ms``, ``/100``, ``hPa`` are such units (RFC 8798)."""

_COUNTERS = frozenset(("boot", "seq"))
_SEPARATORS = "/:-._"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_MAX_NAME = 255


class Pack(NamedTuple):
    """A device's pack, resolved."""

    records: tuple[Record, ...]

    absolute: bool
    """Every record carried an absolute time: the same bytes sent later mean the same."""

    boot: int | None
    """How often the device has started, if it says so."""

    seq: int | None
    """The device's number of this pack, if it says so."""


def resolve_untrusted(payload: bytes, content_format: int, *, device: str, wall: float) -> Pack:
    """A node's pack as resolved records named ``<device>/<label>``.

    ``wall`` is what relative times are relative to.

    Raises:
        BadRequestError: malformed; the reason names the record's index and the label.
        ForbiddenError: a name that is not this device's.
        TooLargeError: more than 8 KiB.
        UnsupportedContentFormatError: neither 110 nor 112.
    """
    if len(payload) > MAX_PAYLOAD:
        raise TooLargeError(f"a pack of {len(payload)} bytes", MAX_PAYLOAD)
    if content_format == SENML_CBOR:
        for shape in _shapes.of(device):
            numbers = shape.numbers(payload, MAX_NUMBER)
            if numbers is not None and (filled := _filled(shape.records, numbers, device, wall)):
                return filled
        resolved = _resolve(senml_cbor.decode_untrusted(payload), device, wall)
        _shapes.learn(device, payload, resolved.records)
        return resolved
    if content_format == SENML_JSON:
        return _resolve(senml_json.decode_untrusted(payload), device, wall)
    raise UnsupportedContentFormatError(
        f"Content-Format {content_format}; send {SENML_CBOR} (CBOR) or {SENML_JSON} (JSON)"
    )


def decode_resolved_untrusted(data: bytes) -> tuple[Record, ...]:
    """The inverse of ``encode_cbor``: full names, absolute times.

    Raises:
        BadRequestError: malformed, or a relative time.
        TooLargeError: more than 64 KiB.
    """
    if len(data) > MAX_RESOLVED:
        raise TooLargeError(f"a resolved pack of {len(data)} bytes", MAX_RESOLVED)
    pack = _resolve(senml_cbor.decode_untrusted(data), None, 0.0)
    if not pack.absolute:
        raise BadRequestError("a resolved pack has absolute times only")
    return pack.records


def _filled(
    slots: Sequence[Slots], numbers: Sequence[float], device: str, wall: float
) -> Pack | None:
    """The pack of a shape with these numbers, as :func:`_resolve` would give it.

    None: a number is out of bounds, which the general path will say.
    """
    records: list[Record] = []
    absolute = True
    boot = seq = None
    moment = 0.0
    prefix = len(device) + 1
    for name, unit, text, boolean, value, time, base_time, timed_as_before in slots:
        if not timed_as_before:
            moment = float(numbers[time] + numbers[base_time])
            if moment < EARLIEST_ABSOLUTE:
                absolute = False
                if moment <= -EARLIEST_ABSOLUTE:
                    return None
                moment += wall
            elif moment >= LATEST_TIME:
                return None
        number = None if value < 0 else numbers[value]
        if name[prefix:] in _COUNTERS:
            if number is None or number < 0 or number != int(number):
                return None
            if name.endswith("/boot"):
                boot = int(number)
            else:
                seq = int(number)
        records.append(_new(Record, (name, unit, number, text, boolean, None, None, moment, None)))
    return _new(Pack, (tuple(records), absolute, boot, seq))


_shapes = Shapes()
_new = tuple.__new__


class _Base:
    """The base fields in force (RFC 8428 section 4.1): each until a record has it again."""

    __slots__ = ("name", "sum", "time", "unit", "value", "version")

    def __init__(self) -> None:
        self.name: str | None = None
        self.time: float = 0
        self.unit: str | None = None
        self.value: float = 0
        self.sum: float = 0
        self.version: int | None = None


def _resolve(pack: Sequence[Fields], device: str | None, wall: float) -> Pack:
    if not pack:
        raise BadRequestError("an empty pack")
    base = _Base()
    records: list[Record] = []
    absolute = True
    counters: dict[str, int] = {}
    try:
        for fields in pack:
            record, label, own_time = _record(fields, base, device, wall)
            if label in _COUNTERS:
                counters[label] = _counter(record.value)
            absolute &= own_time
            records.append(record)
    except (BadRequestError, ForbiddenError) as error:
        raise type(error)(f"record {len(records)}: {error}") from None
    return Pack(tuple(records), absolute, counters.get("boot"), counters.get("seq"))


def _record(
    fields: Fields, base: _Base, device: str | None, wall: float
) -> tuple[Record, str, bool]:
    """The record, its label, and whether its time was absolute.

    The branches stand in the order of how often a bracelet needs them.
    """
    name: str | None = None
    unit: str | None = None
    value: float | None = None
    text: str | None = None
    boolean: bool | None = None
    data: bytes | None = None
    total: float | None = None
    update_time: float | None = None
    time: float = 0
    values = 0
    for label, item in fields.items():
        kind = item.__class__
        if label == NAME:
            if kind is not str:
                raise BadRequestError("n: not text")
            name = item  # type: ignore[assignment]
        elif label == VALUE:
            if (kind is not int and kind is not float) or not -MAX_NUMBER <= item <= MAX_NUMBER:  # type: ignore[operator]
                value = _number("v", item)  # which says what is wrong
            value = item  # type: ignore[assignment]
            values += 1
        elif label == UNIT:
            if kind is not str or not item.isprintable():  # type: ignore[attr-defined]
                raise BadRequestError("u: not printable text")
            unit = item  # type: ignore[assignment]
        elif label == TIME:
            time = _number("t", item)
        elif label == BOOLEAN:
            if kind is not bool:
                raise BadRequestError("vb: not a boolean")
            boolean = item  # type: ignore[assignment]
            values += 1
        elif label == TEXT:
            if kind is not str:
                raise BadRequestError("vs: not text")
            text = item  # type: ignore[assignment]
            values += 1
        elif label == DATA:
            if kind is not bytes:
                raise BadRequestError("vd: not data")
            data = item  # type: ignore[assignment]
            values += 1
        elif label == SUM:
            total = _number("s", item)
        elif label == UPDATE_TIME:
            update_time = _number("ut", item)
        elif label in _BASE_FIELDS:
            _take_base(label, item, base)
    if values != 1 and (values > 1 or total is None):
        raise BadRequestError("several values" if values else "no value, and no sum")
    full_name, label_text = _full_name(device, base.name, name)
    if value is not None and base.value:
        value += base.value
    if total is not None:
        total += base.sum
    time = float(time + base.time)
    absolute = time >= EARLIEST_ABSOLUTE
    if not absolute:
        if time <= -EARLIEST_ABSOLUTE:
            raise BadRequestError("t: more than eight years ago")
        time += wall
    elif time >= LATEST_TIME:
        raise BadRequestError("t: after the year 2106")
    record = Record(
        full_name,
        unit or base.unit,
        value,
        text,
        boolean,
        data,
        total,
        time,
        update_time,
    )
    return record, label_text, absolute


def _number(label: str, number: object) -> float:
    """A number, checked. A bool is not a number here, whatever Python says."""
    kind = number.__class__
    if kind is not int and kind is not float:
        raise BadRequestError(f"{label}: not a number")
    if not -MAX_NUMBER <= number <= MAX_NUMBER:  # type: ignore[operator]  # refuses NaN as well
        raise BadRequestError(f"{label}: not a finite number of sensible size")
    return number  # type: ignore[return-value]


_BASE_FIELDS = frozenset((BASE_NAME, BASE_TIME, BASE_UNIT, BASE_VALUE, BASE_SUM, BASE_VERSION))


def _take_base(label: int | str, item: object, base: _Base) -> None:
    if label == BASE_NAME:
        if not isinstance(item, str):
            raise BadRequestError("bn: not text")
        base.name = item
    elif label == BASE_TIME:
        base.time = _number("bt", item)
    elif label == BASE_UNIT:
        if not isinstance(item, str) or not item.isprintable():
            raise BadRequestError("bu: not printable text")
        base.unit = item
    elif label == BASE_VALUE:
        base.value = _number("bv", item)
    elif label == BASE_SUM:
        base.sum = _number("bs", item)
    else:
        _check_version(item, base)


def _check_version(version: object, base: _Base) -> None:
    if type(version) is not int or version not in _VERSIONS:
        raise BadRequestError("bver: this version is not known")
    if base.version is not None and version != base.version:
        raise BadRequestError("bver: differs within the pack (RFC 8428 section 4.4)")
    base.version = version


def _counter(value: float | None) -> int:
    if value is None or value < 0 or value != int(value):
        raise BadRequestError("v: a counter is a whole number, not negative")
    return int(value)


@lru_cache(maxsize=8192)  # 500 devices with about 16 labels each
def _full_name(device: str | None, base: str | None, name: str | None) -> tuple[str, str]:
    """The full name and the label in it. Without ``device`` any full name goes."""
    label = name or ""
    if device is None:
        full = (base or "") + label
        label = full.rpartition("/")[2]
    else:
        if base is not None:
            if (
                base.rstrip(_SEPARATORS) != device.rstrip(_SEPARATORS)
                or len(base) > len(device) + 1
            ):
                raise ForbiddenError(f"bn: {shorten(base)} is not this device's name")
            if base == device:
                label = label[label[:1] in ("/", ":") :]
        elif "/" in label or ":" in label:
            if not label.startswith((f"{device}/", f"{device}:")):
                raise ForbiddenError(f"n: {shorten(label)} is not this device's name")
            label = label[len(device) + 1 :]
        full = f"{device}/{label}"
    if not label:
        raise BadRequestError("n: the name is missing")
    if not _NAME.fullmatch(label) or not _NAME.fullmatch(full):
        raise BadRequestError(f"n: {shorten(label)} is not a name (RFC 8428 section 4.5.1)")
    if len(full) > _MAX_NAME:
        raise BadRequestError(f"n: longer than {_MAX_NAME} characters")
    return full, label
