"""The common case of a telemetry gateway, read in under a microsecond and answered by hand.

Almost every datagram is a small POST to one of a few paths. :func:`claim` recognises exactly those
and nothing else; what it does not claim goes to the full CoAP implementation, which knows all the
rest: two lanes, one meaning.

Constraints
    The fork is a pure function of the bytes. A retransmission is identical to its original, so it
    takes the same lane and meets the same table of exchanges; if load or state chose the lane, a
    repeated message could be stored twice.
    What is claimed is what the strict decoder would have accepted and read in the same way. A
    property test holds this.
    No Message IDs are minted here: an answer rides on the request's.

Theory
    The options of telemetry hardly vary: a path, a format, perhaps No-Response. So the bytes of
    the options are not parsed but looked up. They end at the first 0xFF after the token: no value
    of a claimed option contains one, except a No-Response of 255, which is then not claimed. If
    that byte lies inside an option instead, the option list that it cuts is malformed, so the
    lookup says no. Its results are remembered, refusals too, in a bounded table of short keys.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.coap import options as option_codec
from gateway.coap.message import MAX_DATAGRAM, empty_ack
from gateway.coap.numbers import Code, ContentFormat, Option, Type, code_class
from gateway.errors import MessageFormatError


class Kind(StrEnum):
    """What a telemetry resource takes."""

    VITALS = "vitals"
    ALARM = "alarm"
    SEALED = "sealed"
    SEALED_ALARM = "sealed_alarm"


DECLARED: Final = (Kind.ALARM, Kind.SEALED_ALARM)
"""What the node itself calls an emergency."""

PATHS: Final[dict[tuple[str, ...], Kind]] = {
    ("vitals",): Kind.VITALS,
    ("v",): Kind.VITALS,
    ("alarm",): Kind.ALARM,
    ("a",): Kind.ALARM,
    ("sealed",): Kind.SEALED,
    ("s",): Kind.SEALED,
    ("sealed", "alarm"): Kind.SEALED_ALARM,
    ("s", "a"): Kind.SEALED_ALARM,
}
"""Each resource by its long and its short name. Both lanes of ingress serve this table."""

_SENML: Final = (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON)
_COSE: Final = (ContentFormat.COSE_ENCRYPT0, ContentFormat.COSE_ENCRYPT)

FORMATS: Final[dict[Kind, tuple[ContentFormat, ...]]] = {
    Kind.VITALS: _SENML,
    Kind.ALARM: _SENML,
    Kind.SEALED: _COSE,
    Kind.SEALED_ALARM: _COSE,
}
"""What each kind may be written in."""


class Telemetry(NamedTuple):
    """A claimed message."""

    confirmable: bool
    mid: int
    token: bytes
    kind: Kind
    content_format: int
    payload: bytes
    no_response: int
    """RFC 7967 bit map: 2, 8, 16 = no interest in 2.xx, 4.xx, 5.xx; 0: in everything."""


_LONGEST_OPTIONS: Final = 24
"""Uri-Path "sealed", "alarm", Content-Format and No-Response take 20 bytes."""

_MEMO: Final = 512
"""Remembered option lists: a ward uses a handful; 512 cost 100 KiB."""

_PATH_OF: Final = {
    tuple((int(Option.URI_PATH), part.encode()) for part in path): kind
    for path, kind in PATHS.items()
}

_HEAD = struct.Struct("!BBH")
_DIAGNOSTIC_BYTES: Final = 256
"""What a reason may add to an answer: more helps nobody and costs a radio."""

_CHANGED: Final = int(Code.CHANGED)
_new = tuple.__new__


def claim(plaintext: bytes) -> Telemetry | None:
    """The telemetry that this datagram carries; None: not for the fast lane. Never raises."""
    size = len(plaintext)
    if size < 8 or size > MAX_DATAGRAM:
        return None
    first = plaintext[0]
    # Version 1, CON or NON, token of at most 8 bytes; POST or PUT.
    if first & 0xE0 != 0x40 or first & 15 > 8 or plaintext[1] & 0xFE != 2:
        return None
    start = 4 + (first & 15)
    end = plaintext.find(0xFF, start)
    if end - start > _LONGEST_OPTIONS or end < start or end + 1 == size:
        return None
    found = _classify(plaintext[start:end])
    if found is None:
        return None
    kind, content_format, no_response = found
    return _new(
        Telemetry,
        (
            first < 0x50,
            plaintext[2] << 8 | plaintext[3],
            plaintext[4:start],
            kind,
            content_format,
            plaintext[end + 1 :],
            no_response,
        ),
    )


@lru_cache(maxsize=_MEMO)
def _classify(encoded: bytes) -> tuple[Kind, int, int] | None:
    """Kind, Content-Format and No-Response of an option list that has nothing else in it."""
    try:
        options, _ = option_codec.decode_untrusted(encoded, 0)
    except MessageFormatError:
        return None
    path = tuple(option for option in options if option[0] == Option.URI_PATH)
    kind = _PATH_OF.get(path)
    rest = options[len(path) :]
    if kind is None or not rest or rest[0][0] != Option.CONTENT_FORMAT or len(rest[0][1]) > 2:
        return None
    content_format = int.from_bytes(rest[0][1], "big")
    if content_format not in FORMATS[kind]:
        return None
    if len(rest) == 1:
        return kind, content_format, 0
    if len(rest) > 2 or rest[1][0] != Option.NO_RESPONSE or len(rest[1][1]) > 1:
        return None
    return kind, content_format, int.from_bytes(rest[1][1], "big")


def answer(
    telemetry: Telemetry,
    code: int,
    *,
    mid: int | None = None,
    max_age: int | None = None,
    size1: int | None = None,
    diagnostic: str = "",
) -> bytes:
    """The response to a claimed message, as a datagram; ``b""`` when none is to be sent.

    A Confirmable message gets a piggybacked response, or an empty Acknowledgement where
    No-Response suppresses that (RFC 7967 section 2.1). A Non-confirmable one gets a
    Non-confirmable response if the caller has a Message ID of ours for it.

    Args:
        mid: for a Non-confirmable response only.
        max_age: seconds, for 4.29 and 5.03.
        size1: bytes, for 4.13.
        diagnostic: text for people (RFC 7252 section 5.5.2); cut at 256 bytes.
    """
    token = telemetry.token
    wish = telemetry.no_response
    suppressed = wish and wish >> code_class(code) - 1 & 1
    if telemetry.confirmable:
        if suppressed:
            return empty_ack(telemetry.mid)
        head = _HEAD.pack(0x40 | Type.ACK << 4 | len(token), code, telemetry.mid) + token
    elif suppressed or mid is None:
        return b""
    else:
        head = _HEAD.pack(0x40 | Type.NON << 4 | len(token), code, mid) + token
    if code == _CHANGED:
        return head
    options = []
    if max_age is not None:
        options.append((int(Option.MAX_AGE), option_codec.uint(max_age)))
    if size1 is not None:
        options.append((int(Option.SIZE1), option_codec.uint(size1)))
    payload = cut_text(diagnostic)
    return head + option_codec.encode(options) + (b"\xff" + payload if payload else b"")


def cut_text(diagnostic: str) -> bytes:
    """UTF-8 of at most 256 bytes, never cut inside a character."""
    whole = diagnostic.encode("utf-8", "replace")
    return whole[:_DIAGNOSTIC_BYTES].decode("utf-8", "ignore").encode()
