"""A pack of SenML records: read, checked, resolved (RFC 8428).

There are two ways. The general one reads the pack, in CBOR or JSON, and resolves it record by
record. The short one takes CBOR of a shape that the device has sent before, and reads its numbers
only. Which way a pack went cannot be told from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    TooLargeError,
    UnsupportedContentFormatError,
)
from gateway.senml import senml_cbor, senml_json
from gateway.senml.layout import Pack
from gateway.senml.resolve import (
    EARLIEST_ABSOLUTE,
    LATEST_TIME,
    MAX_NUMBER,
    Base,
    resolve_record,
)
from gateway.senml.shapes import COUNTERS, Shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.senml.labels import Fields
    from gateway.senml.record import Record
    from gateway.senml.shapes import Shape

SENML_JSON = 110
SENML_CBOR = 112
"""Content-Formats (RFC 8428 section 12.3)."""

MAX_PAYLOAD = 8192
"""Bytes of a node's pack: what a bracelet collects in some minutes out of reach."""

_EARLIEST_REFERENCE = 2 * EARLIEST_ABSOLUTE
"""The farthest relative time before it is absolute still."""

MAX_RESOLVED = 65536
"""Bytes of a resolved pack: every one of 256 records repeats the device's name and the time."""


def resolve_untrusted(payload: bytes, content_format: int, *, device: str, wall: float) -> Pack:
    """A node's pack as resolved records named ``<device>/<label>``.

    ``wall`` is what relative times are relative to. If the gateway's clock stands near 1970, as a
    Raspberry Pi's does at first, 17 years are added, because what came before July 1978 could not
    be told from a relative time again (RFC 8428 section 4.5.3).

    Raises:
        BadRequestError: malformed; the reason names the record's index and the label.
        ForbiddenError: a name that is not this device's.
        TooLargeError: more than 8 KiB.
        UnsupportedContentFormatError: neither 110 nor 112.
    """
    if len(payload) > MAX_PAYLOAD:
        raise TooLargeError(f"a pack of {len(payload)} bytes", MAX_PAYLOAD)
    if wall < _EARLIEST_REFERENCE:
        wall += _EARLIEST_REFERENCE
    if content_format == SENML_CBOR:
        for shape in _shapes.of(device):
            numbers = shape.numbers(payload, MAX_NUMBER)
            if numbers is not None:
                filled = _filled(shape, numbers, device, wall)
                if filled is not None:
                    return filled
        pack = resolve(senml_cbor.decode_untrusted(payload), device, wall)
        _shapes.learn(device, payload, pack.records)
        return pack
    if content_format == SENML_JSON:
        return resolve(senml_json.decode_untrusted(payload), device, wall)
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
    records, absolute, _ = _resolved(senml_cbor.decode_untrusted(data), None, 0.0)
    if not absolute:
        raise BadRequestError("a resolved pack has absolute times only")
    return tuple(records)


def resolve(pack: Sequence[Fields], device: str, wall: float) -> Pack:
    """The general way, from what a reader gave.

    Raises:
        BadRequestError: the reason names the record's index and the label.
        ForbiddenError: a name that is not this device's.
    """
    records, absolute, counters = _resolved(pack, device, wall)
    boot, seq = counters.get("boot"), counters.get("seq")
    return Pack.of(device, records, absolute=absolute, boot=boot, seq=seq)


def _resolved(
    pack: Sequence[Fields], device: str | None, wall: float
) -> tuple[list[Record], bool, dict[str, int]]:
    """Records, whether all times were absolute, counters. ``device``: None takes any names."""
    if not pack:
        raise BadRequestError("an empty pack")
    base = Base()
    records: list[Record] = []
    absolute = True
    counters: dict[str, int] = {}
    try:
        for fields in pack:
            record, label, own_time = resolve_record(fields, base, device, wall)
            if label in COUNTERS:
                counters[label] = _counter(record.value)
            absolute &= own_time
            records.append(record)
    except (BadRequestError, ForbiddenError) as error:
        raise type(error)(f"record {len(records)}: {error}") from None
    return records, absolute, counters


def _counter(value: float | None) -> int:
    if value is None or value < 0 or value != int(value):
        raise BadRequestError("v: a counter is a whole number, not negative")
    return int(value)


def _filled(shape: Shape, numbers: Sequence[int | float], device: str, wall: float) -> Pack | None:
    """The pack of a shape with these numbers, as :func:`resolve` would give it.

    None: a number is out of bounds, which the general path will say.
    """
    absolute = True
    times: list[float] = []
    moment = 0.0
    for count, time, base_time in shape.times:
        moment = float(numbers[time] + numbers[base_time])
        if moment < EARLIEST_ABSOLUTE:
            absolute = False
            if moment <= -EARLIEST_ABSOLUTE:
                return None
            moment += wall
        elif moment >= LATEST_TIME:
            return None
        times += [moment] * count
    values = shape.constants.copy()
    for record, slot in shape.values:
        values[record] = numbers[slot]
    boot = seq = None
    for label, record in shape.counters:
        number = values[record]
        if not isinstance(number, int | float) or number < 0 or number != int(number):
            return None
        if label == "boot":
            boot = int(number)
        else:
            seq = int(number)
    return Pack(device, shape.layout, values, times, absolute, boot, seq)


_shapes = Shapes()
