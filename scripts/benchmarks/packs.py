"""The requests of the load: what a bracelet with a clock posts, as CoAP messages.

All requests of an association have the same length, so that the kernel can cut several datagrams
from one buffer (see requester.py). Values change from message to message as in life; the time makes
each pack a new one.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import cbor2

from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import Code, ContentFormat, Option, Type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FIRST_TIME = 1_795_000_000
_TIMES_A_BOOT = 100_000
_VARIANTS = 64

TOKEN_BYTES = 2
MOST = 0xFFFF
"""Requests of one association: a Message ID may not come again for 247 s (RFC 7252 4.8.2)."""


def pack(number: int, time: int, values: random.Random) -> bytes:
    """SenML-CBOR, about 90 bytes: five vitals of a healthy person, with the time in seconds."""
    return cbor2.dumps(
        [
            {-2: f"bench-{number}/", -3: time, 0: "hr", 1: "1/min", 2: values.randint(60, 95)},
            {0: "spo2", 1: "/100", 2: values.randint(96, 99)},
            {0: "resp", 1: "1/min", 2: values.randint(12, 20)},
            {0: "temp", 1: "Cel", 2: values.randint(362, 378) / 10},
            {0: "contact", 4: True},
        ]
    )


def requests(
    number: int, *, method: str, path: Sequence[str], boot: int, count: int
) -> Iterator[bytes]:
    """Confirmable requests of device ``bench-<number>``; the n-th has Message ID and token n.

    boot: a number that this server has not had yet: the times of its packs are its own.
    """
    options = tuple((Option.URI_PATH, part.encode()) for part in path)
    options += ((Option.CONTENT_FORMAT, bytes((ContentFormat.SENML_CBOR,))),)
    values = random.Random(number)
    first = _FIRST_TIME + _TIMES_A_BOOT * boot
    cut_at = first.to_bytes(4, "big")
    start = b""
    variants = []
    for _ in range(_VARIANTS):
        payload = pack(number, first, values)
        whole = message.encode(
            Message(Type.CON, Code[method], 0, bytes(TOKEN_BYTES), options, payload)
        )
        before, after = whole.split(cut_at)
        start = whole[:2]
        variants.append((before[4 + TOKEN_BYTES :], after))
    for n in range(count):
        before, after = variants[n % _VARIANTS]
        name = n.to_bytes(2, "big")  # of the message, and token
        yield start + name + name + before + (first + n).to_bytes(4, "big") + after
