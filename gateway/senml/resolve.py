"""One record, checked and resolved against the base fields in force (RFC 8428 section 4.6).

Theory: the two readers give the same labelled fields; everything after that is written once. A
number is checked by one comparison with a finite range, which also refuses NaN and the infinities.
Names repeat with every pack of a device, so the checked full name is cached; the cache has a cap,
and an attacker who fills it only makes names slow again.

Whose name: a device is known by its association, so records are *its* records whatever they say,
and a name can only agree or be refused. ``bn`` is the device's id, with or without a separator. A
full name without ``bn`` is recognised by its ``/`` or ``:`` and must start with the device's id:
a bracelet that was given another one's name must learn of it, not fill a bed with nonsense that
nobody judges.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.errors import BadRequestError, ForbiddenError
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

if TYPE_CHECKING:
    from gateway.senml.labels import Fields

MAX_NUMBER = 1e15
"""No vital sign is near it, and every integer below it is exact in a double (2^53 is 9e15)."""

EARLIEST_ABSOLUTE = 2**28
"""Times below are relative to now (RFC 8428 section 4.5.3)."""

LATEST_TIME = 2**32
"""The year 2106: a time after it is a fault."""

_VERSIONS = frozenset((*range(1, 11), 26))
"""Up to 10 (RFC 8428 section 4.4), and 10 with feature 4, secondary units (RFC 9100 section 3):
``ms``, ``/100``, ``hPa`` are such units (RFC 8798)."""

_SEPARATORS = "/:-._"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_MAX_NAME = 255


class Base:
    """The base fields in force (RFC 8428 section 4.1): each until a record has it again."""

    __slots__ = ("name", "sum", "time", "unit", "value", "version")

    def __init__(self) -> None:
        self.name: str | None = None
        self.time: int | float = 0
        self.unit: str | None = None
        self.value: int | float = 0
        self.sum: int | float = 0
        self.version: int | None = None


def resolve_record(
    fields: Fields, base: Base, device: str | None, wall: float
) -> tuple[Record, str, bool]:
    """The record, its label, and whether its time was absolute.

    Base fields in it are put into ``base`` and hold from this record on. ``device``: whose names
    are taken, None for anybody's. ``wall`` is what a relative time is relative to. The branches
    stand in the order of how often a bracelet needs them.

    Raises:
        BadRequestError: a label with what it cannot have; the reason names the label.
        ForbiddenError: a name that is not this device's.
    """
    name: str | None = None
    unit: str | None = None
    value: int | float | None = None
    text: str | None = None
    boolean: bool | None = None
    data: bytes | None = None
    total: int | float | None = None
    update_time: int | float | None = None
    time: int | float = 0
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
    moment = float(time + base.time)
    absolute = moment >= EARLIEST_ABSOLUTE
    if not absolute:
        if moment <= -EARLIEST_ABSOLUTE:
            raise BadRequestError("t: more than eight years ago")
        moment += wall
    elif moment >= LATEST_TIME:
        raise BadRequestError("t: after the year 2106")
    record = Record(
        full_name,
        unit or base.unit,
        value,
        text,
        boolean,
        data,
        total,
        moment,
        update_time,
    )
    return record, label_text, absolute


def _number(label: str, number: object) -> int | float:
    """A number, checked. A bool is not a number here, whatever Python says."""
    kind = number.__class__
    if kind is not int and kind is not float:
        raise BadRequestError(f"{label}: not a number")
    if not -MAX_NUMBER <= number <= MAX_NUMBER:  # type: ignore[operator]  # refuses NaN as well
        raise BadRequestError(f"{label}: not a finite number of sensible size")
    return number  # type: ignore[return-value]


_BASE_FIELDS = frozenset((BASE_NAME, BASE_TIME, BASE_UNIT, BASE_VALUE, BASE_SUM, BASE_VERSION))


def _take_base(label: int | str, item: object, base: Base) -> None:
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


def _check_version(version: object, base: Base) -> None:
    if type(version) is not int or version not in _VERSIONS:
        raise BadRequestError("bver: this version is not known")
    if base.version is not None and version != base.version:
        raise BadRequestError("bver: differs within the pack (RFC 8428 section 4.4)")
    base.version = version


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
