"""The CBOR of COSE (RFC 8949): a strict reader for peers' bytes, a deterministic writer.

The outline of a message (tags, arrays, strings) is read head by head here, so that a length is
checked against a limit before anything is copied, and the record inside is never decoded. Header
maps and other small items go to cbor2 once their heads have been counted: a map of colliding
integer keys costs quadratic time, 58 ms for 50 kB, and an empty map of one byte takes 64. Refused
everywhere: indefinite lengths, lengths not in their shortest form, duplicate keys, trailing bytes,
and every tag but the one that is expected (cbor2 compiles a regular expression for tag 35 and
allocates for tag 4).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import cbor2

from gateway.errors import BadRequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

UINT: Final = 0
BYTES: Final = 2
TEXT: Final = 3
ARRAY: Final = 4
MAP: Final = 5
TAG: Final = 6
"""Major types (RFC 8949 section 3.1)."""

MAX_ITEM_BYTES: Final = 16 * 1024
"""One header map. The largest is an envelope's: a certificate (1 KiB) and 128 readers (5 KiB)."""

MAX_PARTS: Final = 512
"""Items in it. An envelope's header has 150; 16 KiB of empty maps would become 1 MiB of ours."""

_MAX_DEPTH: Final = 8
"""The deepest item of ours is an assessment: map, array of findings, map."""

_SHORTEST: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
"""The least value that needs an argument of so many bytes (RFC 8949 section 4.2.1)."""


def head(major: int, value: int) -> bytes:
    """The initial byte and argument, in the shortest form (RFC 8949 section 4.2.1)."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 1 << 8:
        return bytes((major << 5 | 24, value))
    if value < 1 << 16:
        return (((major << 5 | 25) << 16) | value).to_bytes(3, "big")
    if value < 1 << 32:
        return (((major << 5 | 26) << 32) | value).to_bytes(5, "big")
    return (((major << 5 | 27) << 64) | value).to_bytes(9, "big")


def byte_string(value: bytes) -> bytes:
    """A definite byte string."""
    return head(BYTES, len(value)) + value


def text_string(value: str) -> bytes:
    """A definite text string."""
    encoded = value.encode()
    return head(TEXT, len(encoded)) + encoded


def encode(item: object) -> bytes:
    """Deterministic CBOR of a small item.

    cbor2 sorts keys by length first (RFC 8949 section 4.2.3). For the maps of the product that is
    the bytewise order of section 4.2.1 too: none mixes negative labels with labels above 23.
    """
    return cbor2.dumps(item, canonical=True)


def _end_of_item_untrusted(data: bytes, at: int, limit: int, parts: int) -> int:
    """Where the item at ``at`` ends, without anything of it being made.

    Raises BadRequestError: more than ``parts`` items in it, itself included, or ``limit`` bytes;
    cut off, a tag, an indefinite length.
    """
    end = min(len(data), at + limit)
    pending = 1
    while pending:
        if parts == 0:
            raise BadRequestError("CBOR: too many items")
        pending -= 1
        parts -= 1
        if at >= end:
            raise BadRequestError("CBOR ends early")
        major, value = data[at] >> 5, data[at] & 31
        at += 1
        if value > 27:
            raise BadRequestError("CBOR: indefinite or reserved length")
        if value >= 24:
            size = 1 << (value - 24)
            value = int.from_bytes(data[at : at + size], "big")
            at += size
        if major == TAG:
            raise BadRequestError("CBOR: a tag where none may be")
        if major in (BYTES, TEXT):
            at += value
        elif major == ARRAY:
            pending += value
        elif major == MAP:
            pending += 2 * value
        if at > end:
            raise BadRequestError("CBOR ends early")
    return at


class Reader:
    """Reads one message from front to back. Every method raises BadRequestError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def head(self, major: int) -> int:
        """The argument of a head of this major type."""
        data, at = self._data, self._at
        if at >= len(data):
            raise BadRequestError("CBOR ends early")
        first = data[at]
        if first >> 5 != major:
            raise BadRequestError(f"CBOR: major type {first >> 5} where {major} must be")
        value = first & 31
        self._at = at + 1
        if value < 24:
            return value
        if value > 27:
            raise BadRequestError("CBOR: indefinite or reserved length")
        size = 1 << (value - 24)
        self._at = end = at + 1 + size
        if end > len(data):
            raise BadRequestError("CBOR ends early")
        value = int.from_bytes(data[at + 1 : end], "big")
        if value < _SHORTEST[size]:
            raise BadRequestError("CBOR: length not in its shortest form")
        return value

    def expect(self, major: int, value: int) -> None:
        """A head with exactly this argument."""
        found = self.head(major)
        if found != value:
            raise BadRequestError(f"CBOR: {found} where {value} must be (major type {major})")

    def byte_string(self, limit: int) -> bytes:
        """At most ``limit`` bytes, else TooLargeError."""
        size = self.head(BYTES)
        if size > limit:
            raise TooLargeError("byte string too long", limit)
        return self._take(size)

    def exactly(self, size: int) -> bytes:
        """A byte string of this length."""
        self.expect(BYTES, size)
        return self._take(size)

    def text(self, limit: int) -> str:
        """At most ``limit`` bytes of UTF-8."""
        size = self.head(TEXT)
        if size > limit:
            raise BadRequestError("text string too long")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as exc:
            raise BadRequestError("text string is not UTF-8") from exc

    def item(self, limit: int = MAX_ITEM_BYTES, parts: int = MAX_PARTS) -> object:
        """One item of at most ``limit`` bytes and ``parts`` items, decoded whole."""
        return self.encoded_item(limit, parts)[1]

    def encoded_item(
        self, limit: int = MAX_ITEM_BYTES, parts: int = MAX_PARTS
    ) -> tuple[bytes, object]:
        """As :meth:`item`, with the bytes it was decoded from."""
        end = _end_of_item_untrusted(self._data, self._at, limit, parts)
        encoded = self._data[self._at : end]
        try:
            value: object = cbor2.CBORDecoder(
                io.BytesIO(encoded),
                max_depth=_MAX_DEPTH,
                allow_indefinite=False,
                allow_duplicate_keys=False,
            ).decode()
        except Exception as exc:  # whatever a decoder makes of a peer's bytes, they are at fault
            raise BadRequestError("CBOR cannot be decoded") from exc
        self._at = end
        return encoded, value

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._at == len(self._data)

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise BadRequestError("CBOR: trailing bytes")

    def _take(self, size: int) -> bytes:
        start = self._at
        self._at = end = start + size
        if end > len(self._data):
            raise BadRequestError("CBOR ends early")
        return self._data[start:end]


def decode_untrusted(data: bytes, limit: int = MAX_ITEM_BYTES) -> object:
    """One item, the whole of ``data``. Raises BadRequestError."""
    reader = Reader(data)
    value = reader.item(limit)
    reader.end()
    return value


def mapping_untrusted(value: object) -> Mapping[int | str, object]:
    """A decoded map whose keys are integers or text, as all of COSE's are. Raises BadRequestError.

    In Python ``True`` and ``1.0`` would be found under the label 1.
    """
    if not isinstance(value, dict) or not all(type(key) in {int, str} for key in value):
        raise BadRequestError("CBOR: not a map of integer and text labels")
    return value
