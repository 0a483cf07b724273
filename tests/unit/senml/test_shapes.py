"""gateway.senml.shapes, alone and in front of the general way"""

from __future__ import annotations

from itertools import count
from typing import Any

import cbor2
import pytest

from gateway.errors import BadRequestError, ForbiddenError
from gateway.senml import senml_cbor
from gateway.senml.pack import resolve, resolve_untrusted
from gateway.senml.shapes import Shapes

WALL = 1_790_000_000.0
LIMIT = 1e15
DEVICES = (f"learner-{n}" for n in count())
"""Names of devices that have sent nothing yet."""


def learn(shapes: Shapes, device: str, payload: bytes) -> None:
    pack = resolve(senml_cbor.decode_untrusted(payload), device, WALL)
    shapes.learn(device, payload, pack.records)


def heart_rate(number: bytes, name: str = "hr") -> bytes:
    """A pack of one record, with a value of these bytes."""
    return b"\x81\xa2\x00" + cbor2.dumps(name) + b"\x02" + number


NUMBERS: list[tuple[str, float]] = [
    ("00", 0), ("17", 23),
    ("18 18", 24), ("18 ff", 255), ("18 05", 5),
    ("19 0100", 256), ("19 ffff", 65535),
    ("1a 00010000", 65536), ("1b 00038d7ea4c68000", 10**15),
    ("20", -1), ("38 ff", -256), ("3b 00038d7ea4c67fff", -(10**15)),
    ("f9 3e00", 1.5), ("f9 8000", -0.0), ("fa 42124000", 36.5625),
    ("fb 404247ae147ae148", 36.56), ("fb 430c6bf526340000", 1e15),
]  # fmt: skip


@pytest.mark.parametrize(("number", "value"), NUMBERS, ids=[number for number, _ in NUMBERS])
def test_every_form_of_a_number_is_read(number: str, value: float) -> None:
    """RFC 8949 section 3.3, and with it whether it is an integer."""
    shapes = Shapes()
    learn(shapes, "b", heart_rate(b"\x18\x48"))
    [shape] = shapes.of("b")
    read = shape.numbers(heart_rate(bytes.fromhex(number)), LIMIT)
    assert repr(read) == repr([value, 0])


@pytest.mark.parametrize(
    "number",
    [
        "1b 00038d7ea4c68001", "1b ffffffffffffffff", "3b ffffffffffffffff",
        "f9 7e00", "f9 7c00", "f9 fc00", "fa 7fc00000", "fa ff800000", "fa 7f7fffff",
        "fb 7ff8000000000000", "fb 7ff0000000000000", "fb 430c6bf526340004",
        "f4", "f5", "f6", "f7", "61 61", "41 61", "80", "a0", "c1 00", "1c", "1f", "ff", "fc",
        "", "18", "19 01", "1a 000100", "1b 00", "38", "f9 3e", "fa 4212", "fb 4042",
        "62 61", "61 ff", "00 00", "18 48 00",
    ],
)  # fmt: skip
def test_what_is_no_number_of_sensible_size_is_left_to_the_general_way(number: str) -> None:
    """Also a payload that ends too early, or too late."""
    shapes = Shapes()
    learn(shapes, "b", heart_rate(b"\x18\x48"))
    [shape] = shapes.of("b")
    assert shape.numbers(heart_rate(bytes.fromhex(number)), LIMIT) is None


def test_every_byte_between_the_numbers_counts() -> None:
    """Any other byte there is another pack."""
    payload = cbor2.dumps(
        [
            {-2: "b/", -3: 1.79e9, 0: "hr", 1: "1/min", 2: 72, 6: -1},
            {0: "rhythm", 3: "N"},
            {0: "contact", 4: True},
        ]
    )
    shapes = Shapes()
    learn(shapes, "b", payload)
    [shape] = shapes.of("b")
    assert shape.numbers(payload, LIMIT) == [1.79e9, 72, -1, 0]
    numbers = {
        at
        for value in (b"\xfb" + cbor2.dumps(1.79e9)[1:], b"\x18\x48", b"\x20")
        for at in range(payload.index(value), payload.index(value) + len(value))
    }
    for at in set(range(len(payload))) - numbers:
        other = payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :]
        assert shape.numbers(other, LIMIT) is None, at


def test_a_device_has_at_most_four_shapes_the_latest_first() -> None:
    """The one learnt first is forgotten."""
    shapes = Shapes()
    names = ["hr", "resp", "spo2", "temp", "sbp", "dbp"]
    for name in names:
        learn(shapes, "b", heart_rate(b"\x00", name))
    known = [shape.layout.labels[0] for shape in shapes.of("b")]
    assert known == ["dbp", "sbp", "temp", "spo2"]


def test_at_most_2048_devices_have_shapes() -> None:
    """The one that has learnt nothing for longest is forgotten."""
    shapes = Shapes()
    for n in range(2048):
        learn(shapes, f"b-{n}", heart_rate(b"\x00"))
    learn(shapes, "b-0", heart_rate(b"\x00", "resp"))
    learn(shapes, "one-more", heart_rate(b"\x00"))
    assert len(shapes.of("one-more")) == 1
    assert not shapes.of("b-1")
    assert len(shapes.of("b-0")) == 2
    assert sum(1 for n in range(2048) if shapes.of(f"b-{n}")) == 2047


def test_a_shape_serves_its_own_device_only() -> None:
    """The same bytes from two devices are two packs."""
    shapes = Shapes()
    learn(shapes, "b-1", heart_rate(b"\x00"))
    assert not shapes.of("b-2")
    first, second = next(DEVICES), next(DEVICES)
    for device in (first, second, first):
        pack = resolve_untrusted(heart_rate(b"\x18\x48"), 112, device=device, wall=WALL)
        assert pack.records[0].name == f"{device}/hr"


def test_a_learnt_name_is_still_forbidden_to_others() -> None:
    """What one device may say does not become sayable."""
    owner, thief = next(DEVICES), next(DEVICES)
    payload = cbor2.dumps([{-2: f"{owner}/", 0: "hr", 2: 72}])
    assert resolve_untrusted(payload, 112, device=owner, wall=WALL).records
    with pytest.raises(ForbiddenError, match="not this device's name"):
        resolve_untrusted(payload, 112, device=thief, wall=WALL)


@pytest.mark.parametrize(
    "fields",
    [
        {-5: 10},
        {-6: 10, 5: 1},
        {5: 1},
        {7: 60},
        {99: 1},
        {-99: 1},
        {"zz": [1, {"a": None}]},
    ],
)
def test_a_pack_with_other_labels_has_no_shape(fields: dict[int | str, Any]) -> None:
    """Base values, sums, update times, and what nobody knows always go the general way."""
    shapes = Shapes()
    payload = cbor2.dumps([{0: "hr", 2: 72}, {0: "resp", 2: 16, **fields}])
    learn(shapes, "b", payload)
    assert not shapes.of("b")


def test_data_has_no_shape() -> None:
    """A waveform differs in more than numbers."""
    shapes = Shapes()
    learn(shapes, "b", cbor2.dumps([{0: "ecg", 8: b"\x00\x01"}]))
    assert not shapes.of("b")


def test_a_refused_pack_is_not_learnt_and_does_no_harm() -> None:
    """The good pack before it is still known, the good pack after it is still read."""
    device = next(DEVICES)
    for number in (72, 10**16, "72", 73):
        payload = cbor2.dumps([{0: "hr", 2: number}])
        if number in (72, 73):
            pack = resolve_untrusted(payload, 112, device=device, wall=WALL)
            assert pack.records[0].value == number
        else:
            with pytest.raises(BadRequestError, match="record 0: v: not a"):
                resolve_untrusted(payload, 112, device=device, wall=WALL)


@pytest.mark.parametrize("time", [-(2**28), 2**32])
def test_a_time_out_of_range_is_refused_by_the_same_words(time: int) -> None:
    """The short way gives up where the general one refuses."""
    device = next(DEVICES)
    resolve_untrusted(cbor2.dumps([{0: "hr", 2: 72, 6: -1}]), 112, device=device, wall=WALL)
    with pytest.raises(BadRequestError, match="record 0: t: "):
        resolve_untrusted(cbor2.dumps([{0: "hr", 2: 72, 6: time}]), 112, device=device, wall=WALL)


@pytest.mark.parametrize("counter", [-1, 1.5, -0.5])
@pytest.mark.parametrize("name", ["boot", "seq"])
def test_a_bad_counter_is_refused_by_the_same_words(name: str, counter: float) -> None:
    """Whatever good ones the device has sent before; a whole number may be a float."""
    device = next(DEVICES)
    for good in (3, 4.0):
        payload = cbor2.dumps([{0: name, 2: good}])
        pack = resolve_untrusted(payload, 112, device=device, wall=WALL)
        assert repr(getattr(pack, name)) == repr(int(good))
    with pytest.raises(BadRequestError, match="record 0: v: a counter is a whole number"):
        resolve_untrusted(cbor2.dumps([{0: name, 2: counter}]), 112, device=device, wall=WALL)
