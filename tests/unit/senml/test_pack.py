"""Resolving a device's pack (RFC 8428), and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import cbor2
import pytest

from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    TooLargeError,
    UnsupportedContentFormatError,
)
from gateway.senml.layout import Pack
from gateway.senml.pack import decode_resolved_untrusted, resolve_untrusted
from gateway.senml.record import Record
from gateway.senml.senml_cbor import encode_cbor, encode_pack

WALL = 1_790_000_000.0
LABELS = {
    "bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6,
    "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}  # fmt: skip


def from_json(*records: dict[str, Any], device: str = "bracelet-1") -> Pack:
    payload = json.dumps(records).encode()
    return resolve_untrusted(payload, 110, device=device, wall=WALL)


def from_cbor(*records: dict[str, Any], device: str = "bracelet-1") -> Pack:
    payload = cbor2.dumps([{LABELS.get(k, k): v for k, v in record.items()} for record in records])
    return resolve_untrusted(payload, 112, device=device, wall=WALL)


@pytest.fixture(params=[from_json, from_cbor], ids=["json", "cbor"])
def resolve(request: pytest.FixtureRequest) -> Any:
    """Both representations must mean the same."""
    return request.param


def test_a_record_is_resolved_against_the_base_fields_before_it(resolve: Any) -> None:
    """RFC 8428 section 5.1.3: names joined, times added, units inherited."""
    pack = resolve(
        {"bn": "bracelet-1/", "bt": 1.79e9, "bu": "1/min", "bver": 10, "n": "hr", "v": 72},
        {"n": "resp", "t": 1.5, "v": 16},
        {"n": "spo2", "u": "/100", "v": 97},
    )
    assert pack.records == (
        Record("bracelet-1/hr", "1/min", 72, None, None, None, None, 1.79e9, None),
        Record("bracelet-1/resp", "1/min", 16, None, None, None, None, 1.79e9 + 1.5, None),
        Record("bracelet-1/spo2", "/100", 97, None, None, None, None, 1.79e9, None),
    )
    assert (pack.absolute, pack.boot, pack.seq) == (True, None, None)


def test_a_base_field_counts_until_a_record_has_it_again(resolve: Any) -> None:
    """RFC 8428 section 4.1."""
    pack = resolve(
        {"bv": 20, "bs": 100, "n": "a", "v": 1, "s": 1},
        {"n": "a", "v": 2},
        {"bv": 30, "n": "a", "v": 3, "s": 3},
    )
    assert [(record.value, record.total) for record in pack.records] == [
        (21, 101),
        (22, None),
        (33, 103),
    ]


@pytest.mark.parametrize("label", ["bt", "t"])
def test_a_time_below_2_to_the_28_is_relative_to_arrival(resolve: Any, label: str) -> None:
    """RFC 8428 section 4.5.3."""
    pack = resolve({"n": "hr", "v": 72, label: -5})
    assert pack.records[0].time == WALL - 5
    assert not pack.absolute


def test_a_record_without_any_time_is_of_now(resolve: Any) -> None:
    """RFC 8428 section 4.5.3: 0 is relative, and means now."""
    pack = resolve({"n": "hr", "v": 72})
    assert pack.records[0].time == WALL
    assert not pack.absolute


def test_one_relative_time_makes_a_pack_relative(resolve: Any) -> None:
    """Such a pack cannot be recognised when it is sent again."""
    assert not resolve({"n": "a", "v": 1, "t": 1.79e9}, {"n": "b", "v": 1}).absolute
    assert resolve({"n": "a", "v": 1, "t": 2**28}, {"n": "b", "v": 1, "t": 2**28}).absolute


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1", "n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1", "n": "/hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1/", "n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1:", "n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1-", "n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1.", "n": "hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1_", "n": "hr"}, "bracelet-1/hr"),
        ({"n": "bracelet-1/hr"}, "bracelet-1/hr"),
        ({"n": "bracelet-1:hr"}, "bracelet-1/hr"),
        ({"bn": "bracelet-1/", "n": "ecg/lead-2"}, "bracelet-1/ecg/lead-2"),
    ],
)
def test_every_way_to_say_the_own_name_gives_one_name(
    resolve: Any, fields: dict[str, str], name: str
) -> None:
    """With or without ``bn``, with any separator."""
    assert resolve({**fields, "v": 1}).records[0].name == name


@pytest.mark.parametrize(
    "fields",
    [
        {"bn": "bracelet-2/", "n": "hr"},
        {"bn": "bracelet-10", "n": "hr"},
        {"bn": "bracelet-1//", "n": "hr"},
        {"bn": "bracelet-1/../bracelet-2/", "n": "hr"},
        {"bn": "bracelet-", "n": "1/hr"},
        {"bn": "", "n": "hr"},
        {"bn": "urn:dev:ow:10e2073a01080063:", "n": "hr"},
        {"n": "bracelet-2/hr"},
        {"n": "bracelet-10/hr"},
        {"n": "urn:dev:ow:10e2073a01080063:hr"},
    ],
)
def test_somebody_elses_name_is_forbidden(resolve: Any, fields: dict[str, str]) -> None:
    """A device's identity comes from its association, never from a payload."""
    with pytest.raises(ForbiddenError, match=r"record 1: b?n: .* is not this device's name"):
        resolve({"n": "hr", "v": 1}, {**fields, "v": 1})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n": "hr"}, "no value"),
        ({"n": "hr", "u": "1/min"}, "no value"),
        ({"v": 1}, "n: the name is missing"),
        ({"n": "", "v": 1}, "n: the name is missing"),
        ({"bn": "bracelet-1/", "v": 1}, "n: the name is missing"),
        ({"n": "hr rate", "v": 1}, "n: 'hr rate' is not a name"),
        ({"n": "-hr", "v": 1}, "n: '-hr' is not a name"),
        ({"n": "h\u00e9", "v": 1}, "n: 'h.xe9' is not a name"),
        ({"n": "x" * 300, "v": 1}, "n: longer"),
        ({"n": 7, "v": 1}, "n: not text"),
        ({"bn": 7, "n": "hr", "v": 1}, "bn: not text"),
        ({"n": "hr", "v": "72"}, "v: not a number"),
        ({"n": "hr", "v": True}, "v: not a number"),
        ({"n": "hr", "v": None}, "v: not a number"),
        ({"n": "hr", "v": 1e16}, "v: not a finite number"),
        ({"n": "hr", "v": -(10**300)}, "v: not a finite number|CBOR tags"),
        ({"n": "hr", "vs": 5}, "vs: not text"),
        ({"n": "hr", "vb": 1}, "vb: not a boolean"),
        ({"n": "hr", "vb": "true"}, "vb: not a boolean"),
        ({"n": "hr", "vd": 5}, "vd: not data"),
        ({"n": "hr", "s": "1"}, "s: not a number"),
        ({"n": "hr", "v": 1, "t": True}, "t: not a number"),
        ({"n": "hr", "v": 1, "ut": "1"}, "ut: not a number"),
        ({"n": "hr", "v": 1, "u": 1}, "u: not printable text"),
        ({"n": "hr", "v": 1, "u": "a\nb"}, "u: not printable text"),
        ({"n": "hr", "v": 1, "bu": 1}, "bu: not printable text"),
        ({"n": "hr", "v": 1, "bt": "0"}, "bt: not a number"),
        ({"n": "hr", "v": 1, "bv": "0"}, "bv: not a number"),
        ({"n": "hr", "v": 1, "bs": []}, "bs: not a number|the value of a label is"),
        ({"n": "hr", "v": 1, "vs": "1"}, "several values"),
        ({"n": "hr", "vb": True, "vs": "1"}, "several values"),
        ({"n": "hr", "v": 1, "t": -(2**28)}, "t: more than eight years ago"),
        ({"n": "hr", "v": 1, "t": 2**32}, "t: after the year 2106"),
        ({"n": "hr", "v": 1, "bver": 11}, "bver: this version is not known"),
        ({"n": "hr", "v": 1, "bver": 0}, "bver: this version is not known"),
        ({"n": "hr", "v": 1, "bver": 10.0}, "bver: this version is not known"),
        ({"n": "hr", "v": 1, "bver": True}, "bver: this version is not known"),
        ({"n": "hr", "v": 1, "urgent_": 1}, "label 'urgent_' must be understood"),
        ({"n": "seq", "v": 1.5}, "v: a counter is a whole number"),
        ({"n": "boot", "v": -1}, "v: a counter is a whole number"),
        ({"n": "seq", "vs": "1"}, "v: a counter is a whole number"),
    ],
)
def test_a_bad_record_is_refused_with_its_index_and_label(
    resolve: Any, fields: dict[str, Any], reason: str
) -> None:
    """The reason goes to whoever is writing the node's program."""
    with pytest.raises(BadRequestError, match=f"record 1: (?:{reason})"):
        resolve({"n": "ok", "v": 1}, fields)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("label", ["v", "t", "bt", "bv", "s", "ut"])
def test_what_is_not_finite_is_refused(resolve: Any, label: str, number: float) -> None:
    """NaN compares false with every limit, so it has to be stopped here."""
    with pytest.raises(BadRequestError):
        resolve({"n": "hr", "v": 1, label: number})


def test_versions_known(resolve: Any) -> None:
    """10 and older, and 26: 10 with secondary units (RFC 9100), such as ms and /100."""
    for version in (5, 10, 26):
        assert resolve({"n": "hr", "v": 1, "bver": version}).records
    with pytest.raises(BadRequestError, match="record 1: bver: differs"):
        resolve({"n": "hr", "v": 1, "bver": 10}, {"n": "hr", "v": 1, "bver": 26})


def test_unknown_labels_are_ignored(resolve: Any) -> None:
    """RFC 8428 section 4.3, whatever their value."""
    pack = resolve({"n": "hr", "v": 1, "ct": [{"a": [1, "b", None, 1.5]}], "zz": "x"})
    assert pack.records[0].value == 1


def test_counters_of_the_device_are_found(resolve: Any) -> None:
    """``boot`` and ``seq`` tell a repeated pack from a new one."""
    pack = resolve({"n": "boot", "v": 3}, {"n": "bracelet-1/seq", "v": 4711.0})
    assert (pack.boot, pack.seq) == (3, 4711)


def test_a_sum_needs_no_value(resolve: Any) -> None:
    """RFC 8428 section 4.2."""
    assert resolve({"n": "steps", "s": 12, "ut": 60}).records[0] == Record(
        "bracelet-1/steps", None, None, None, None, None, 12, WALL, 60
    )


def test_an_empty_pack_is_refused(resolve: Any) -> None:
    """There is nothing to store and so nothing to acknowledge."""
    with pytest.raises(BadRequestError, match="empty"):
        resolve()


def test_more_records_than_the_limit_are_refused(resolve: Any) -> None:
    """256 are taken, 257 are not."""
    assert len(resolve(*[{"n": "a", "v": 1}] * 256).records) == 256
    with pytest.raises(BadRequestError, match="257"):
        resolve(*[{"n": "a", "v": 1}] * 257)


def test_a_payload_over_8_kib_is_too_large() -> None:
    """4.13 says how much there may be."""
    with pytest.raises(TooLargeError) as caught:
        resolve_untrusted(b" " * 8193, 110, device="bracelet-1", wall=WALL)
    assert caught.value.limit == 8192


@pytest.mark.parametrize("content_format", [0, 50, 60, 111, 113, 310])
def test_other_content_formats_are_named(content_format: int) -> None:
    """4.15: also for streams (111, 113), which have no end to wait for."""
    with pytest.raises(UnsupportedContentFormatError, match=str(content_format)):
        resolve_untrusted(b"[]", content_format, device="bracelet-1", wall=WALL)


def test_a_resolved_pack_comes_back_as_it_was(resolve: Any) -> None:
    """What the reader opens is what the gateway resolved."""
    records = resolve(
        {"bt": 1.79e9, "n": "hr", "u": "1/min", "v": 72},
        {"n": "temp", "u": "Cel", "v": 36.6, "t": 0.25},
        {"n": "rhythm", "vs": "N"},
        {"n": "contact", "vb": False, "t": -3},
        {"n": "steps", "s": 12.5, "ut": 60},
    ).records
    assert decode_resolved_untrusted(encode_cbor(records)) == records


def test_a_relative_time_is_no_resolved_pack() -> None:
    """Relative to what would be a guess."""
    with pytest.raises(BadRequestError, match="absolute"):
        decode_resolved_untrusted(cbor2.dumps([{0: "bracelet-1/hr", 2: 72}]))


def test_a_resolved_pack_has_a_size() -> None:
    """Cap of what a reader takes from an opened record."""
    with pytest.raises(TooLargeError):
        decode_resolved_untrusted(b"\x80" + bytes(65536))


@pytest.mark.parametrize("wall", [0.0, 600.0, 2.0**28, 2.0**29 - 1])
def test_a_gateway_in_1970_makes_records_that_can_be_read(wall: float) -> None:
    """Times so early would be relative ones to the reader (RFC 8428 section 4.5.3)."""
    payload = b'[{"n":"hr","u":"1/min","v":72,"t":-268435455},{"n":"hr","u":"1/min","v":73}]'
    resolved = resolve_untrusted(payload, 110, device="b", wall=wall)
    read = decode_resolved_untrusted(encode_pack(resolved))
    assert [one.time for one in read] == [wall + 2**29 - 268435455, wall + 2**29]
