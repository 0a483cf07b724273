"""Options on the wire (RFC 7252 section 3.1) and which of them a receiver may act on (5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.coap.numbers import OPTIONS, Format, is_critical
from gateway.errors import BadRequestError, MessageFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

MAX_OPTIONS: Final = 64
"""The longest legitimate request here has about 20; 65,000 empty options fit in one datagram."""

PAYLOAD_MARKER: Final = 0xFF

Options = tuple[tuple[int, bytes], ...]
"""(number, value) in the order of the wire, which is the order of the numbers."""

_STRINGS: Final = frozenset(n for n, one in OPTIONS.items() if one.format is Format.STRING)


def decode_untrusted(data: bytes, offset: int) -> tuple[Options, int]:
    """Options that start at ``offset``; where the payload starts, which is ``len(data)`` if none.

    Raises:
        MessageFormatError: reserved delta or length, cut option, number above 65535, marker
            without payload, more than MAX_OPTIONS, a text that is not UTF-8.
    """
    options: list[tuple[int, bytes]] = []
    number = 0
    end = len(data)
    while offset < end:
        head = data[offset]
        offset += 1
        if head == PAYLOAD_MARKER:
            if offset == end:
                raise MessageFormatError("payload marker without a payload")
            return tuple(options), offset
        delta, offset = _extended_untrusted(data, offset, head >> 4)
        length, offset = _extended_untrusted(data, offset, head & 15)
        number += delta
        value = data[offset : offset + length]
        if len(value) != length:
            raise MessageFormatError("option is cut short")
        if number > 0xFFFF:
            raise MessageFormatError("option number above 65535")
        if len(options) == MAX_OPTIONS:
            raise MessageFormatError(f"more than {MAX_OPTIONS} options")
        if number in _STRINGS:
            _check_text_untrusted(value)
        options.append((number, value))
        offset += length
    return tuple(options), end


def _extended_untrusted(data: bytes, offset: int, nibble: int) -> tuple[int, int]:
    """Value of an option delta or length, and where to read on."""
    if nibble < 13:
        return nibble, offset
    if nibble == 15:
        raise MessageFormatError("reserved option delta or length 15")
    size = nibble - 12
    extension = data[offset : offset + size]
    if len(extension) != size:
        raise MessageFormatError("option header is cut short")
    return int.from_bytes(extension, "big") + (13 if size == 1 else 269), offset + size


def _check_text_untrusted(value: bytes) -> None:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MessageFormatError("option text is not UTF-8") from error


def encode(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Any order in; equal numbers keep theirs."""
    out = bytearray()
    last = 0
    for number, value in sorted(options, key=lambda option: option[0]):
        delta, delta_extension = _nibble(number - last)
        length, length_extension = _nibble(len(value))
        out.append(delta << 4 | length)
        out += delta_extension + length_extension + value
        last = number
    return bytes(out)


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, (value - 13).to_bytes(1, "big")
    return 14, (value - 269).to_bytes(2, "big")


def uint(value: int) -> bytes:
    """The fewest bytes; none for 0 (RFC 7252 section 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


class Accepted(NamedTuple):
    """Options that may be acted on, and the first critical one that may not."""

    options: Options
    refused: int | None


def accept(options: Options, understood: Set[int]) -> Accepted:
    """Apply RFC 7252 sections 5.4.1, 5.4.3 and 5.4.5.

    Not understood, of a wrong length, or a surplus occurrence: all are "unrecognized". A critical
    one refuses the message, an elective one is left out.
    """
    kept: list[tuple[int, bytes]] = []
    last = 0
    for number, value in options:
        definition = OPTIONS.get(number)
        if (
            definition is None
            or number not in understood
            or not definition.shortest <= len(value) <= definition.longest
            or (number == last and not definition.repeatable)
        ):
            if is_critical(number):
                return Accepted((), number)
            continue
        kept.append((number, value))
        last = number
    return Accepted(tuple(kept), None)


class Block(NamedTuple):
    """Value of Block1 or Block2 (RFC 7959 section 2.2)."""

    number: int
    more: bool
    exponent: int
    """0 to 6; the size is 2 ** (exponent + 4)."""

    @property
    def size(self) -> int:
        """16 to 1024 bytes."""
        return 1 << self.exponent + 4

    @property
    def start(self) -> int:
        """Where the block begins in the body."""
        return self.number << self.exponent + 4

    def encode(self) -> bytes:
        return uint(self.number << 4 | self.more << 3 | self.exponent)


def decode_block_untrusted(value: bytes) -> Block:
    """At most 3 bytes, as :func:`accept` has seen to.

    Raises:
        BadRequestError: reserved size exponent 7 (RFC 7959 section 2.2).
    """
    raw = int.from_bytes(value, "big")
    if raw & 7 == 7:
        raise BadRequestError("block size exponent 7 is reserved")
    return Block(raw >> 4, bool(raw & 8), raw & 7)
