"""One CoAP message over a datagram transport, to and from bytes (RFC 7252 sections 3 and 4)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from gateway.coap import options as option_codec
from gateway.coap.numbers import Code, Type, is_request, is_response
from gateway.errors import MessageFormatError

MAX_DATAGRAM: Final = 1280
"""Bytes. RFC 7252 section 4.6 suggests 1152; a block of 1024 bytes with its options fits."""

MAX_TOKEN: Final = 8

_HEAD = struct.Struct("!BBH")
_VERSION: Final = 1


class Message(NamedTuple):
    """``code`` is a plain number: unknown methods and responses are legal."""

    type: Type
    code: int
    mid: int
    token: bytes = b""
    options: option_codec.Options = ()
    payload: bytes = b""

    def value(self, number: int) -> bytes | None:
        """Of the first option with this number."""
        return next((value for n, value in self.options if n == number), None)

    def values(self, number: int) -> tuple[bytes, ...]:
        """Of all options with this number, in order."""
        return tuple(value for n, value in self.options if n == number)

    def uint(self, number: int) -> int | None:
        """Of the first option with this number, as an unsigned integer."""
        value = self.value(number)
        return None if value is None else int.from_bytes(value, "big")


def decode_untrusted(datagram: bytes) -> Message:
    """Strict: what RFC 7252 calls a message format error is one.

    Raises:
        MessageFormatError: not CoAP version 1, cut short, token length 9 to 15, reserved code
            class, a code that does not go with the type (section 4.2 and 4.3, Table 1), an Empty
            message with anything after its Message ID, or options that cannot be read.
    """
    if len(datagram) < 4:
        raise MessageFormatError("shorter than a header")
    first, code, mid = _HEAD.unpack_from(datagram)
    if first >> 6 != _VERSION:
        raise MessageFormatError("not CoAP version 1")
    kind = Type(first >> 4 & 3)
    token_length = first & 15
    if token_length > MAX_TOKEN:
        raise MessageFormatError("token length 9 to 15 is reserved")
    if code == Code.EMPTY:
        if kind is Type.NON:
            raise MessageFormatError("a Non-confirmable message is not Empty")
        if len(datagram) != 4 or token_length:
            raise MessageFormatError("an Empty message ends with its Message ID")
        return Message(kind, Code.EMPTY, mid)
    if kind is Type.RST:
        raise MessageFormatError("a Reset is Empty")
    if not is_response(code) and (kind is Type.ACK or not is_request(code)):
        raise MessageFormatError("reserved code class, or a request in an Acknowledgement")
    start = 4 + token_length
    if len(datagram) < start:
        raise MessageFormatError("token is cut short")
    options, payload = option_codec.decode_untrusted(datagram, start)
    return Message(kind, code, mid, datagram[4:start], options, datagram[payload:])


def encode(message: Message) -> bytes:
    """The inverse. The caller keeps to what :func:`decode_untrusted` takes."""
    kind, code, mid, token, options, payload = message
    head = _HEAD.pack(_VERSION << 6 | kind << 4 | len(token), code, mid)
    body = option_codec.encode(options) if options else b""
    return head + token + body + (b"\xff" + payload if payload else b"")


def reset(mid: int) -> bytes:
    """Rejects a Confirmable message (RFC 7252 section 4.2)."""
    return _HEAD.pack(_VERSION << 6 | Type.RST << 4, Code.EMPTY, mid)


def empty_ack(mid: int) -> bytes:
    """Acknowledges without an answer (RFC 7252 section 4.2)."""
    return _HEAD.pack(_VERSION << 6 | Type.ACK << 4, Code.EMPTY, mid)


def confirmable_mid_untrusted(datagram: bytes) -> int | None:
    """Message ID of what claims to be Confirmable, readable or not: what a Reset needs.

    None for everything that is to be ignored in silence: other types, other versions (RFC 7252
    section 3), no complete header.
    """
    if len(datagram) < 4 or datagram[0] >> 4 != _VERSION << 2 | Type.CON:
        return None
    return datagram[2] << 8 | datagram[3]
