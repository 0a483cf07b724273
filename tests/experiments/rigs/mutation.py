"""CoAP messages that are nearly right: good ones, and what a hostile node makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cbor2

from gateway.coap.message import Message, encode
from gateway.coap.numbers import OPTIONS, Code, Format, Type
from gateway.coap.options import MAX_OPTIONS, Block, Options, uint

if TYPE_CHECKING:
    import random

_PATH, _FORMAT, _QUERY, _ACCEPT, _OBSERVE = 11, 12, 15, 17, 6
PACKS = (
    cbor2.dumps([{0: "hr", 1: "1/min", 2: 72}]),
    cbor2.dumps([{-2: "d/", 0: "hr", 2: 72.5}, {0: "rhythm", 3: "N"}, {0: "seq", 2: 3}]),
    b'[{"n":"spo2","u":"/100","v":97}]',
)


def _path(*parts: str) -> Options:
    return tuple((_PATH, part.encode()) for part in parts)


_BODIES: tuple[tuple[int, Options, bytes], ...] = (
    *((Code.POST, (*_path(path), (_FORMAT, b"\x70")), PACKS[0]) for path in ("v", "vitals", "a")),
    (Code.PUT, (*_path("v"), (_FORMAT, b"\x70"), (258, b"\x02")), PACKS[1]),
    (Code.POST, (*_path("v"), (_FORMAT, b"\x6e")), PACKS[2]),
    (Code.POST, (*_path("s", "a"), (_FORMAT, b"\x10")), b"\xd0\x83\x40\xa0\x41x"),
    (Code.GET, _path("time"), b""),
    (Code.GET, (*_path("time"), (_ACCEPT, b"\x3c")), b""),
    (Code.GET, ((_OBSERVE, b""), *_path("time")), b""),
    (Code.DELETE, _path("nothing"), b""),
    (Code.PUT, (*_path("test"), (_FORMAT, b"")), b"text"),
    (Code.GET, (*_path("seg1", "seg2", "seg3"), (_QUERY, b"first=1"), (_QUERY, b"second=2")), b""),
    (Code.GET, _path(".well-known", "core"), b""),
    (Code.GET, (*_path(".well-known", "core"), (_QUERY, b"rt=ward.*")), b""),
    (Code.GET, (*_path(".well-known", "core"), (23, Block(1, False, 2).encode())), b""),
    (Code.POST, (*_path("v"), (_FORMAT, b"\x70"), (27, Block(0, True, 0).encode())), bytes(16)),
    (Code.POST, (*_path("v"), (_FORMAT, b"\x70"), (27, Block(1, False, 0).encode())), b"x"),
    (Code.PUT, (*_path("large"), (27, Block(0, True, 6).encode()), (60, uint(2000))), bytes(1024)),
    (Code.GET, ((3, b"gw"), (7, b"\x16\x34"), *_path("time"), (_QUERY, b"a=b")), b""),
    (Code.GET, ((35, b"coap://host/time"),), b""),
    (Code.FETCH, (*_path("time"), (_FORMAT, b"\x3c")), b"\xa0"),
    (Code.CONTENT, ((4, b"etag"), (_FORMAT, b""), (14, b"\x01")), b"text"),
    (Code.GET, ((1, b"etag"), (5, b""), *_path("time")), b""),
)
"""What the ETSI plugtests CORE, BLOCK, OBS and LINK exchange, and a bracelet's own."""


def seeds() -> list[bytes]:
    """Good messages of every kind; Message ID 0."""
    made = [
        encode(Message(kind, code, 0, token, options, payload))
        for code, options, payload in _BODIES
        for kind, token in ((Type.CON, b""), (Type.CON, b"\x4a\xff"), (Type.NON, b"12345678"))
    ]
    return [*made, b"\x40\0\0\0", b"\x60\0\0\0", b"\x70\0\0\0", b"\x60\x45\0\0\xff1"]


_SEEDS = seeds()


def mutated(chance: random.Random, mid: int) -> bytes:
    """One of them with one to four things done to it, under this Message ID."""
    raw = bytearray(_rebuilt(chance) if chance.random() < 0.3 else chance.choice(_SEEDS))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        _change(chance, raw)
    raw[2:4] = mid.to_bytes(2, "big")[: max(0, len(raw) - 2)]
    return bytes(raw)


def _rebuilt(chance: random.Random) -> bytes:
    """Well-formed, with options that do not belong there."""
    code, options, payload = chance.choice(_BODIES)
    more = []
    for _ in range(chance.choice((1, 1, 2, 5, MAX_OPTIONS))):
        number = chance.choice((*OPTIONS, chance.randrange(1 << 16)))
        definition = OPTIONS.get(number)
        size = chance.choice((0, 1, 2, 3, 4, 8, 9, 40))
        text = definition is not None and definition.format is Format.STRING
        more.append((number, b"x" * size if text else chance.randbytes(size)))
    kind = chance.choice((Type.CON, Type.CON, Type.NON, Type.ACK))
    asked = tuple(sorted([*options, *more], key=lambda one: one[0]))
    token = chance.randbytes(chance.randrange(9))
    return encode(
        Message(kind, chance.choice((code, chance.randrange(256))), 0, token, asked, payload)
    )


def _change(chance: random.Random, raw: bytearray) -> None:
    place = chance.randrange(len(raw)) if raw else 0
    kind = chance.randrange(8)
    if kind == 0 and raw:
        raw[place] ^= 1 << chance.randrange(8)
    elif kind == 1 and raw:
        raw[place] = chance.choice((0, 0x0D, 0x0E, 0x0F, 0xD0, 0xE0, 0xF0, 0xFF, 0x7F, 0x80))
    elif kind == 2:
        raw[place:place] = chance.randbytes(chance.randrange(1, 4))
    elif kind == 3:
        del raw[place : place + chance.randrange(1, 4)]
    elif kind == 4:
        del raw[place:]
    elif kind == 5:
        other = chance.choice(_SEEDS)
        raw[place:] = other[chance.randrange(len(other)) :]
    elif kind == 6 and raw:
        raw[0] = chance.randrange(256)
    elif len(raw) > 1:
        raw[1] = chance.randrange(256)
