"""Walks made-up packs through the pure rooms and prints what becomes of each, a line a pack.

A program of its own, so that it runs with the interpreter of either build: argument 1 is the
seed, argument 2 the number of packs. The same seed must print the same lines.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import cbor2

from gateway.coap import fastlane
from gateway.coap.message import Message, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.cose import record
from gateway.cose.encrypt0 import Sealer
from gateway.errors import GatewayError
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.senml.pack import SENML_CBOR, resolve_untrusted
from gateway.senml.senml_cbor import decode_untrusted, encode_pack
from gateway.vitals.assessment import to_map
from gateway.vitals.triage import Config, Triage

_WALL = 1_700_000_000.0
_NAMES = {
    "hr": "1/min",
    "rr": "ms",
    "spo2": "/100",
    "resp": "1/min",
    "temp": "Cel",
    "sbp": "hPa",
    "batt": "%EL",
    "quality": "/",
    "boot": None,
    "seq": None,
    "own": "m",
}
_LABELS = {"bn": -2, "bt": -3, "bu": -4, "bv": -5, "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4}
_LABELS |= {"s": 5, "t": 6, "ut": 7}
_TEXTS = {"rhythm": ("N", "AFIB", "VF", "asystole"), "acvpu": ("A", "C", "U"), "beat": ("N", "V")}
_SWITCHES = ("o2", "fall", "contact")
_BASES: tuple[dict[str, Any], ...] = ({"bt": -5}, {"bt": _WALL}, {"bv": 2}, {"bn": "d/"})
_EDGES = (-1, 0, -0.0, 0.5, 1e-9, 1e300, 2**31, 2**53 + 1, 2**64, -(2**70))
_SHARE_BROKEN = 0.1
_SHARE_USUAL = 0.6
_DEVICES = 4


def _number(chance: random.Random) -> int | float:
    """Whole as int, whole as float, and others: a build that takes one for the other is found."""
    return chance.choice(
        (
            chance.randint(0, 250),
            float(chance.randint(20, 200)),
            chance.randint(200, 2500) / 10,
            chance.choice(_EDGES) if chance.random() < _SHARE_BROKEN else 70,
        )
    )


def _usual(chance: random.Random, device: int) -> list[dict[str, Any]]:
    """What a device sends most of the time: one shape, other numbers."""
    return [
        {"n": "hr", "u": "1/min", "v": chance.choice((chance.randint(30, 180), 71.5, 72.0))},
        {"n": "spo2", "u": "/100", "v": chance.randint(80, 100)},
        {"n": "rr", "u": "ms", "v": chance.randint(400, 1400), "t": -chance.randint(0, 3)},
        {"n": "rhythm", "vs": "N"},
    ][: device + 1]


def _pack(chance: random.Random) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for _ in range(chance.randint(1, 6)):
        kind = chance.random()
        if kind < 0.7:
            name = chance.choice(list(_NAMES))
            one = {"n": name, "u": _NAMES[name], "v": _number(chance)}
            if one["u"] is None or chance.random() < 0.1:
                del one["u"]
        elif kind < 0.85:
            name = chance.choice(list(_TEXTS))
            one = {"n": name, "vs": chance.choice(_TEXTS[name])}
        else:
            one = {"n": chance.choice(_SWITCHES), "vb": chance.random() < 0.5}
        if chance.random() < 0.5:
            late = chance.choice((-chance.randint(0, 90), -chance.random() * 90))
            one["t"] = late if chance.random() < 0.8 else _WALL + late
        if chance.random() < 0.1:
            one[chance.choice(("s", "ut", "v", "zz"))] = _number(chance)
        records.append(one)
    base = chance.choice(_BASES) if chance.random() < 0.3 else {}
    return [base | records[0], *records[1:]]


def _datagram(chance: random.Random, number: int) -> bytes:
    usual = chance.random() < _SHARE_USUAL
    pack = _usual(chance, number % _DEVICES) if usual else _pack(chance)
    in_cbor = usual or chance.random() < 0.6
    payload = (
        cbor2.dumps([{_LABELS.get(key, key): one[key] for key in one} for one in pack])
        if in_cbor
        else json.dumps(pack).encode()
    )
    if chance.random() < _SHARE_BROKEN:
        spot = chance.randrange(len(payload))
        payload = payload[:spot] + chance.randbytes(chance.randint(0, 2)) + payload[spot + 1 :]
    options = (
        (int(Option.URI_PATH), chance.choice((b"v", b"vitals", b"a", b"alarm", b"time"))),
        (int(Option.CONTENT_FORMAT), bytes([112 if in_cbor else 110])),
    )
    kind = chance.choice((Type.CON, Type.CON, Type.NON))
    datagram = bytearray(
        encode(Message(kind, Code.POST, number & 0xFFFF, chance.randbytes(2), options, payload))
    )
    if chance.random() < _SHARE_BROKEN:
        datagram[chance.randrange(min(12, len(datagram)))] = chance.randrange(256)
    return bytes(datagram)


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def main() -> None:
    """See the module."""
    chance, count = random.Random(int(sys.argv[1])), int(sys.argv[2])
    triage, sealer = Triage(Config()), Sealer(bytes(16), bytes(range(32)))
    for number in range(count):
        device = f"d{number % _DEVICES}"
        wall = _WALL + number * 0.25
        datagram = _datagram(chance, number)
        claimed = fastlane.claim(datagram)
        _tell(number, repr(claimed))
        if claimed is None or claimed[4] not in (SENML_CBOR, 110):
            continue
        try:
            pack = resolve_untrusted(claimed[5], claimed[4], device=device, wall=wall)
            written = encode_pack(pack)
            judged = triage.assess(
                f"p{number % 3}",
                pack,
                wall=wall,
                now=wall,
                declared=claimed[3] is fastlane.Kind.ALARM,
            )
        except GatewayError as error:
            _tell(type(error).__name__, error)
            _tell(fastlane.answer(claimed, Code.BAD_REQUEST, mid=None).hex())
            continue
        plaintext = record.encode(
            record.Plaintext(
                *(device, "p", int(wall * 1000), "synchronised", written, None, to_map(judged))
            )
        )
        name, received_ms = number.to_bytes(16, "big"), int(wall * 1000)
        bound = record.external_aad("gateway", name, bytes(16), judged.lane, received_ms)
        sealed = sealer.seal(plaintext, bound)
        entry = Entry(name, judged.lane, bytes(16), received_ms, bytes(16), sealed, None)
        _tell(repr(decode_untrusted(written)), judged.lane is Lane.EMERGENCY, to_map(judged))
        _tell(repr(record.decode_untrusted(plaintext)), repr(entry))
        _tell(fastlane.answer(claimed, Code.CHANGED, mid=None).hex())


if __name__ == "__main__":
    main()
