"""A device's packs differ in their numbers only: read the numbers, know the rest.

**Theory.** The first pack of a kind is read by the general decoder and resolver, which check
everything. From it a *shape* is cut: the bytes between its variable numbers (values and times), and
what each record resolves to but for those. A later pack whose bytes between the numbers are the
same *is* the same pack with other numbers, because CBOR has no other way to be read; only the
numbers are decoded and checked. Whatever does not fit, or fails a check, is left to the general
path, which says what is wrong: a shape never refuses anything.

**Bounds.** A few shapes a device, a bounded number of devices. What was learnt longest ago goes
first: to note each use would cost every pack more than to learn a shape again costs one. A shape
is made by an authenticated device from a valid pack and serves that device only.

Rejected: regular expressions over the payload (no faster, and patterns made from the network), and
remembering single records (their fixed parts must be found first, which is most of the work).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import BadRequestError
from gateway.senml import senml_cbor
from gateway.senml.labels import (
    BASE_NAME,
    BASE_TIME,
    BASE_UNIT,
    BASE_VERSION,
    BOOLEAN,
    NAME,
    TEXT,
    TIME,
    UNIT,
    VALUE,
)
from gateway.senml.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.senml.layout import Value
    from gateway.senml.record import Record

_DEVICES: Final = 2048
_SHAPES: Final = 4
"""Of one device: with no beat, one, two or three in the pack. A shape takes about 2 KiB."""

_RECORDS: Final = 32
"""Of one shape: a bracelet sends 4 to 20. Larger packs go the general way."""

_VARIABLE: Final = frozenset((VALUE, TIME, BASE_TIME))
_CONSTANT: Final = frozenset((NAME, UNIT, BOOLEAN, TEXT, BASE_NAME, BASE_UNIT, BASE_VERSION))

_ZERO: Final = -1
"""Slot of a number that is not in the pack and counts as 0: the last of the numbers."""

_read_double = struct.Struct(">d").unpack_from


COUNTERS: Final = frozenset(("boot", "seq"))
"""Labels whose values are whole numbers, not negative."""


class Slots(NamedTuple):
    """Which numbers one record of a shape takes."""

    value: int
    """Slot of the value; negative: it has none."""
    time: int
    base_time: int


class Shape:
    """What is constant in one kind of pack of one device, and where its numbers go."""

    __slots__ = ("_chunks", "_last", "constants", "counters", "layout", "times", "values")

    def __init__(
        self,
        chunks: list[bytes],
        last: bytes,
        layout: Layout,
        constants: list[Value],
        slots: list[Slots],
    ) -> None:
        self._chunks = [(chunk, len(chunk)) for chunk in chunks]
        self._last = last
        self.layout = layout
        self.constants = constants
        """The value of each record; None where a number goes."""
        self.values = [(record, one.value) for record, one in enumerate(slots) if one.value >= 0]
        """Record and slot of each value that varies."""
        self.times = [
            (len(list(run)), time, base_time)
            for (time, base_time), run in groupby(slots, lambda one: (one.time, one.base_time))
        ]
        """How many records in a row take their time from which two slots."""
        self.counters = [
            (label, record) for record, label in enumerate(layout.labels) if label in COUNTERS
        ]

    def numbers(self, payload: bytes, limit: float) -> list[int | float] | None:
        """The numbers of a pack of this shape, each within +-``limit``, and a 0 behind them.

        None: not of this shape, or a number that the general path has to judge.
        """
        numbers: list[int | float] = []
        at = 0
        try:
            for chunk, size in self._chunks:
                end = at + size
                if payload[at:end] != chunk:
                    return None
                head = payload[end]
                number: int | float
                if head < 0x18:
                    number, at = head, end + 1
                elif head == 0x18:
                    number, at = payload[end + 1], end + 2
                elif head == 0x19:
                    number, at = payload[end + 1] << 8 | payload[end + 2], end + 3
                elif head == 0x1A:  # a time, as a rule
                    number, at = int.from_bytes(payload[end + 1 : end + 5], "big"), end + 5
                    if at > len(payload):
                        return None
                elif head == 0xFB:
                    (number,), at = _read_double(payload, end + 1), end + 9
                    if not -limit <= number <= limit:
                        return None
                else:
                    scalar, at = senml_cbor.scalar(payload, end)
                    if scalar.__class__ is not int and scalar.__class__ is not float:
                        return None
                    number = scalar
                    if not -limit <= number <= limit:
                        return None
                numbers.append(number)
        except (BadRequestError, IndexError, UnicodeDecodeError, struct.error):
            return None
        if payload[at:] != self._last:
            return None
        numbers.append(0)
        return numbers


class Shapes:
    """The shapes of all devices."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, list[Shape]] = OrderedDict()

    def of(self, device: str) -> Sequence[Shape]:
        """The latest first."""
        return self._devices.get(device, ())

    def learn(self, device: str, payload: bytes, records: Sequence[Record]) -> None:
        """Remember the shape of a valid pack that was read as ``records``, if it has one."""
        shape = _cut(device, payload, records) if len(records) <= _RECORDS else None
        if shape is None:
            return
        known = self._devices.setdefault(device, [])
        self._devices.move_to_end(device)
        known.insert(0, shape)
        del known[_SHAPES:]
        if len(self._devices) > _DEVICES:
            self._devices.popitem(last=False)


def _cut(device: str, payload: bytes, records: Sequence[Record]) -> Shape | None:
    chunks: list[bytes] = []
    slots: list[Slots] = []
    constants: list[Value] = []
    base_time = _ZERO
    _, at = senml_cbor.argument(payload, 0)
    start = 0
    for record in records:
        pairs, at = senml_cbor.argument(payload, at)
        value = time = _ZERO
        for _ in range(pairs):
            label, at = senml_cbor.scalar(payload, at)
            end = senml_cbor.skip(payload, at)
            if label in _VARIABLE:
                slot = len(chunks)
                chunks.append(payload[start:at])
                start = end
                if label == VALUE:
                    value = slot
                elif label == TIME:
                    time = slot
                else:
                    base_time = slot
            elif label not in _CONSTANT:
                return None
            at = end
        slots.append(Slots(value, time, base_time))
        constants.append(record.boolean if record.text is None else record.text)
    prefix = len(device) + 1
    layout = Layout(
        [record.name[prefix:] for record in records],
        [record.unit for record in records],
        [senml_cbor.before_time(record) for record in records],
    )
    return Shape(chunks, payload[start:], layout, constants, slots)
