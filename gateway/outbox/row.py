"""How an entry lies in its row: one blob with a checksum.

A row is ``(number, blob)``; the table says the lane. The blob is, little-endian::

    id 16 | patient 16 | epoch 16 | key 16 | received ms 8 | sealed ... | crc32 4

One column instead of nine halves the cost of an insert, and no query ever asks for a part of a
row. The checksum starts from the number and the lane, so a row that turns up in another's place
is found too. A key of zeros stands for none: a digest of zeros does not happen.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from gateway.lane import Lane
from gateway.outbox.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEAD = Struct("<16s16s16s16sQ")
_CRC_SIZE = 4
_NO_KEY = bytes(16)
_LANE_BIT = {Lane.EMERGENCY: 0, Lane.ROUTINE: 1}

LAST_NUMBER = (1 << 63) - 2
"""SQLite's integers go one further; a range of numbers ends before its end."""

CELL_BYTES = 24
"""What SQLite takes for a row beside its blob: cell, number, its share of the pages."""

ROW_OVERHEAD = _HEAD.size + _CRC_SIZE + CELL_BYTES
"""What an entry takes beside its sealed record."""


def _start(salt: int) -> int:
    """All 64 bits of number and lane in the 32 that the checksum starts from."""
    return (salt ^ salt >> 32) & 0xFFFFFFFF


def pack_rows(lane: Lane, first: int, entries: Iterable[Entry]) -> list[int | bytes]:
    """``[number, blob, number, blob, ...]``, numbered from ``first`` without a gap."""
    pack = _HEAD.pack
    salt = first << 1 | _LANE_BIT[lane]
    parameters: list[int | bytes] = []
    for id_, _, patient, received_ms, epoch, sealed, key in entries:
        body = pack(id_, patient, epoch, key or _NO_KEY, received_ms) + sealed
        parameters += (salt >> 1, body + crc32(body, _start(salt)).to_bytes(4, "little"))
        salt += 2
    return parameters


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run without a gap; ``numbers`` ascend, none is there twice."""
    found: list[tuple[int, int]] = []
    if not numbers:
        return found
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            found.append((first, last))
            first = number
        last = number
    found.append((first, last))
    return found


def intact(lane: Lane, number: int, blob: bytes) -> bool:
    """Whether the row is as it was written."""
    salt = number << 1 | _LANE_BIT[lane]
    return (
        len(blob) >= _HEAD.size + _CRC_SIZE
        and crc32(blob[:-_CRC_SIZE], _start(salt)).to_bytes(4, "little") == blob[-_CRC_SIZE:]
    )


def unpack(lane: Lane, blob: bytes) -> Entry:
    """The entry of an intact row."""
    id_, patient, epoch, key, received_ms = _HEAD.unpack_from(blob)
    sealed = blob[_HEAD.size : -_CRC_SIZE]
    return Entry(id_, lane, patient, received_ms, epoch, sealed, None if key == _NO_KEY else key)
