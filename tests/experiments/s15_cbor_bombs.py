"""CBOR that costs more than it says: every decoder of a peer's CBOR, in this process."""

from __future__ import annotations

import gc
import random
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING
from unittest.mock import patch

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.cose import cbor, encrypt, encrypt0, record, sign1
from gateway.errors import PeerError
from gateway.senml import senml_cbor
from gateway.senml.pack import decode_resolved_untrusted, resolve_untrusted
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.experiments.rigs.hostile import Faults

_WALL = 1_790_000_000.0
_KEY = ec.derive_private_key(77, ec.SECP256R1())
_SIZE = 7_000
"""Bytes of the larger bombs: a pack has at most 8,192."""
_EXTRA_KIB = 64
_EXTRA_A_BYTE = 32
"""A pack of many records is not a bomb: it may take so much memory a byte beyond."""
_MS = 1.0
_GENEROUS_MS = 100.0
_TAGS = (0, 1, 2, 3, 4, 5, 16, 18, 24, 25, 28, 29, 30, 35, 36, 96, 256, 258, 260, 1000, 55799)


def _head(major: int, value: int) -> bytes:
    return cbor.head(major, value)


def _keys(count: int, key: Callable[[int], int]) -> bytes:
    return _head(cbor.MAP, count) + b"".join(_head(cbor.UINT, key(n)) + b"\0" for n in range(count))


_BOMBS: dict[str, bytes] = {
    "arrays in arrays": b"\x81" * _SIZE + b"\0",
    "maps in maps": b"\xa1\0" * (_SIZE // 2) + b"\0",
    "tags on tags": b"\xc1" * _SIZE + b"\0",
    "2^63 items": b"\x9b\x80" + bytes(7),
    "2^64 pairs": b"\xbb" + b"\xff" * 8,
    "2^63 bytes": b"\x5b\x80" + bytes(7),
    "2^31 characters": b"\x7a\x7f\xff\xff\xff" + b"x" * 100,
    "indefinite array": b"\x9f" + b"\0" * _SIZE + b"\xff",
    "indefinite arrays": b"\x9f" * _SIZE,
    "indefinite map": b"\xbf\0\0\xff",
    "indefinite bytes": b"\x5f" + b"\x41x" * (_SIZE // 2) + b"\xff",
    "indefinite text": b"\x7f\x61x\xff",
    "many keys": _keys(_SIZE // 4, lambda number: number),
    "keys that collide": _keys(_SIZE // 10, lambda number: number << 50),
    "keys of one hash": _keys(8, lambda number: number * ((1 << 61) - 1)),
    "a key twice": b"\xa2\0\0\0\1",
    "a key in two forms": b"\xa2\x01\0\x18\x01\0",
    "empty arrays": _head(cbor.ARRAY, _SIZE) + b"\x80" * _SIZE,
    "empty maps": _head(cbor.ARRAY, _SIZE) + b"\xa0" * _SIZE,
    "small numbers": _head(cbor.ARRAY, _SIZE) + b"\x01" * _SIZE,
    "a big number": b"\xc2" + cbor.byte_string(b"\xff" * _SIZE),
    "a decimal fraction": b"\xc4\x82\x1a\xff\xff\xff\xff\x01",
    "a big float": b"\xc5\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
    "a regular expression": b"\xd8\x23" + cbor.text_string("(a+)+$" * 20),
    "shared references": b"\xd8\x1c\x81\xd8\x1d\0",
    "a set": b"\xd9\x01\x02" + _head(cbor.ARRAY, 1000) + b"".join(_head(0, n) for n in range(1000)),
    "reserved length": b"\x1c",
    "a break alone": b"\xff",
    "not UTF-8": b"\x62\xc3\x28",
    "cut short": b"\x19\x01",
    "nothing": b"",
    **{f"tag {tag}": _head(cbor.TAG, tag) + b"\x80" for tag in _TAGS},
}
"""Each is refused in every place."""

_ONLY_NUMBERS: dict[str, bytes] = {
    "NaN": b"\xf9\x7e\0",
    "infinity": b"\xfb\x7f\xf0" + bytes(6),
    "minus infinity": b"\xf9\xfc\0",
    "2^64-1": b"\x1b" + b"\xff" * 8,
}
"""Refused where a measured value stands."""


def _cose(tag: int, *items: bytes) -> bytes:
    return _head(cbor.TAG, tag) + _head(cbor.ARRAY, len(items)) + b"".join(items)


_PROTECTED = cbor.byte_string(b"\xa1\x01\x03")
_EMPTY = cbor.byte_string(b"")
_PLACES: dict[str, tuple[Callable[[bytes], object], Callable[[bytes], bytes]]] = {
    "a pack": (
        lambda data: resolve_untrusted(data, 112, device="d", wall=_WALL),
        lambda bomb: bomb,
    ),
    "a record": (
        lambda data: resolve_untrusted(data, 112, device="d", wall=_WALL),
        lambda bomb: b"\x81" + bomb,
    ),
    "a value": (
        lambda data: resolve_untrusted(data, 112, device="d", wall=_WALL),
        lambda bomb: b"\x81\xa2\0\x62hr\x02" + bomb,
    ),
    "a resolved pack": (decode_resolved_untrusted, lambda bomb: bomb),
    "a protected header": (
        lambda data: encrypt0.open_untrusted(data, bytes(32), b""),
        lambda bomb: _cose(16, cbor.byte_string(bomb), b"\xa0", _EMPTY),
    ),
    "an unprotected header": (
        lambda data: encrypt0.open_untrusted(data, bytes(32), b""),
        lambda bomb: _cose(16, _PROTECTED, bomb, _EMPTY),
    ),
    "a header's value": (
        lambda data: encrypt0.open_untrusted(data, bytes(32), b""),
        lambda bomb: _cose(16, cbor.byte_string(b"\xa2\x01\x03\x18\x63" + bomb), b"\xa0", _EMPTY),
    ),
    "a signature's header": (
        lambda data: sign1.verify_untrusted(data, _KEY.public_key()),
        lambda bomb: _cose(
            18, cbor.byte_string(bomb), b"\xa0", _EMPTY, cbor.byte_string(bytes(64))
        ),
    ),
    "a recipient's header": (
        lambda data: encrypt.decrypt_untrusted(data, _KEY, external_aad=b""),
        lambda bomb: _cose(96, _PROTECTED, b"\xa0", _EMPTY, b"\x81\x83\x40" + bomb + b"\x40"),
    ),
    "a plaintext": (record.decode_untrusted, lambda bomb: bomb),
    "an assessment": (
        record.decode_untrusted,
        lambda bomb: b"\xa1" + cbor.text_string("assessment") + bomb,
    ),
}
"""What reads it, and how the bomb is put there."""


def _fixed() -> Iterator[tuple[str, Callable[[bytes], object], bytes]]:
    """Every bomb in every place, also with more behind it."""
    for place, (read, put) in _PLACES.items():
        for name, bomb in _BOMBS.items():
            if (place, name) != ("a protected header", "nothing"):  # that is an empty header
                yield f"{name} as {place}", read, put(bomb)
        yield f"trailing bytes behind {place}", read, put(b"\xa0\0")
    for name, number in _ONLY_NUMBERS.items():
        read, put = _PLACES["a value"]
        yield f"{name} as a value", read, put(number)


def _item(chance: random.Random, depth: int) -> bytes:
    """Any CBOR, often not quite."""
    kind = chance.randrange(12 if depth < 6 else 8)
    if kind == 0:
        return bytes((chance.randrange(256),))
    if kind == 1:
        return _head(cbor.UINT, chance.choice((chance.randrange(24), chance.getrandbits(64))))
    if kind == 2:
        return _head(1, chance.getrandbits(chance.choice((4, 8, 32))))
    if kind == 3:
        return cbor.byte_string(chance.randbytes(chance.randrange(20)))
    if kind == 4:
        return cbor.text_string(chance.choice(("hr", "d/", "x_", "1/min", "\N{SNOWMAN}" * 5)))
    if kind == 5:
        return b"\xfb" + struct.pack(">d", chance.choice((1.5, -0.0, 1e300, float("nan"))))
    if kind == 6:
        return chance.choice((b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xf9\x7e\0", b"\xff"))
    if kind == 7:
        return _head(chance.randrange(8), chance.getrandbits(chance.choice((3, 6, 16, 64))))
    size = chance.choice((0, 1, 2, 3, 3, 30 if depth < 2 else 1))
    said = size if chance.random() < 0.95 else size + 1
    if kind == 8:
        return _head(cbor.TAG, chance.choice(_TAGS)) + _item(chance, depth + 1)
    if kind == 9:
        return _head(cbor.ARRAY, said) + b"".join(_item(chance, depth + 1) for _ in range(size))
    return _head(cbor.MAP, said) + b"".join(
        _head(chance.choice((0, 0, 0, 1)), chance.randrange(9)) + _item(chance, depth + 1)
        for _ in range(size)
    )


def _generated(
    chance: random.Random, count: int
) -> Iterator[tuple[str, Callable[[bytes], object], bytes]]:
    places = list(_PLACES.items())
    for _ in range(count):
        name, (read, put) = chance.choice(places)
        item = _item(chance, 0)
        yield f"{item[:40].hex()} as {name}", read, put(item)


class _Judge:
    """Feeds one decoder at a time, and keeps what was worst."""

    def __init__(self, limit_ms: float) -> None:
        self._limit_ms = limit_ms
        self.failures: list[str] = []
        self.worst_ms = 0.0
        self.worst_kib = 0.0
        self.refused = 0

    def feed(self, name: str, read: Callable[[bytes], object], data: bytes, *, bomb: bool) -> None:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        refused = self._refuses(name, read, data)
        kib = (tracemalloc.get_traced_memory()[1] - before) / 1024
        self.refused += refused
        if bomb and not refused:
            self.failures.append(f"{name}: taken")
        self.worst_kib = max(self.worst_kib, kib if bomb else 0)
        if kib > _EXTRA_KIB + (0 if bomb else _EXTRA_A_BYTE * len(data) / 1024):
            self.failures.append(f"{name}: {kib:.0f} KiB for {len(data)} bytes")

    def time(self, name: str, read: Callable[[bytes], object], data: bytes) -> None:
        """The best of three: a processor has other things to do."""
        took = []
        for _ in range(3):
            began = time.thread_time()
            self._refuses(name, read, data)
            took.append(1000 * (time.thread_time() - began))
            if took[-1] < self._limit_ms:
                break
        self.worst_ms = max(self.worst_ms, min(took))
        if min(took) > self._limit_ms:
            self.failures.append(f"{name}: {min(took):.1f} ms for {len(data)} bytes")

    def _refuses(self, name: str, read: Callable[[bytes], object], data: bytes) -> bool:
        try:
            read(data)
        except PeerError:
            return True
        except Exception as error:
            self.failures.append(f"{name}: {type(error).__name__}")
            return True
        return False


def _run(run: Run) -> Found:
    judge = _Judge(_MS if run.long else _GENEROUS_MS)
    with _FAULTS[run.fault][1]() if run.fault else patch.dict({}):
        for name, read, data in _fixed():
            judge.time(name, read, data)
        if run.long:
            for name, read, data in _generated(random.Random(run.seed), run.runs):
                judge.time(name, read, data)
        gc.collect()
        tracemalloc.start()
        try:
            for name, read, data in _fixed():
                judge.feed(name, read, data, bomb=True)
                if run.fault is not None and judge.failures:
                    return Found(judge.failures, {})
            generated = _generated(random.Random(run.seed), run.runs)
            for done, (name, read, data) in enumerate(generated, 1):
                judge.feed(name, read, data, bomb=False)
                run.progress(done)
        finally:
            tracemalloc.stop()
    figures: dict[str, object] = {
        "bombs": sum(1 for _ in _fixed()),
        "refused": judge.refused,
        "worst ms": round(judge.worst_ms, 2),
        "worst KiB of a bomb": round(judge.worst_kib),
    }
    return Found(judge.failures, figures)


_FAULTS: Faults = {
    "uncounted": (
        "items in a COSE header are not counted",
        lambda: patch.object(
            cbor,
            "_end_of_item_untrusted",
            lambda data, at, limit, parts, end=cbor._end_of_item_untrusted: end(
                data, at, limit, 1 << 30
            ),
        ),
    ),
    "general": (
        "packs are read by a general decoder",
        lambda: patch.object(senml_cbor, "decode_untrusted", cbor2.loads),
    ),
}

register(
    Experiment(
        id="S-15",
        name="cbor-bombs",
        target=(
            "every bomb refused by every decoder in <= 1 ms (long) with <= 64 KiB extra; no tag "
            "but the listed; PeerError only; anything generated: memory linear in its size"
        ),
        unit="generated items",
        short=10_000,
        long=1_000_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=50,
    )
)
