"""JSON that is not SenML, data values, and resolved JSON."""

from __future__ import annotations

import pytest

from gateway.errors import BadRequestError
from gateway.senml.pack import resolve_untrusted
from gateway.senml.record import Record
from gateway.senml.senml_json import decode_untrusted, to_json

BAD = {
    "empty": b"",
    "not JSON": b"[{",
    "object": b'{"n":"a","v":1}',
    "number": b"1",
    "record no object": b"[[1]]",
    "record a string": b'["nv"]',
    "depth": b"[" * 8000,
    "depth of an unknown label": b'[{"x":' + b"[" * 4000 + b"]" * 4000 + b"}]",
    "not UTF-8": b'[{"n":"\xff","v":1}]',
    "UTF-16": '[{"n":"a","v":1}]'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf[{"n":"a","v":1}]',
    "NaN": b'[{"n":"a","v":NaN}]',
    "Infinity": b'[{"n":"a","v":-Infinity}]',
    "integer of 5000 digits": b'[{"n":"a","v":' + b"9" * 5000 + b"}]",
    "trailing": b'[{"n":"a","v":1}] []',
    "label twice": b'[{"n":"a","v":1,"v":2}]',
    "unknown label twice": b'[{"n":"a","v":1,"x":2,"x":2}]',
    "half a surrogate pair": b'[{"n":"a","vs":"\\ud800"}]',
    "data with padding": b'[{"n":"a","vd":"YQ=="}]',
    "data of the wrong alphabet": b'[{"n":"a","vd":"+/+/"}]',
    "data with a space": b'[{"n":"a","vd":"YWJj YWJj"}]',
    "data of length 1": b'[{"n":"a","vd":"Y"}]',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_a_pack_is_refused(name: str) -> None:
    """With one kind of error, whatever json does."""
    with pytest.raises(BadRequestError):
        decode_untrusted(BAD[name])


def test_a_number_beyond_double_is_not_infinity() -> None:
    """json makes infinity of 1e999; the resolver must not take it."""
    with pytest.raises(BadRequestError, match="v: not a finite"):
        resolve_untrusted(b'[{"n":"a","v":1e999}]', 110, device="d", wall=0.0)


@pytest.mark.parametrize(
    ("text", "data"), [("", b""), ("YQ", b"a"), ("-_8", b"\xfb\xff"), ("YWJj", b"abc")]
)
def test_data_values_are_base64url_without_padding(text: str, data: bytes) -> None:
    """RFC 8428 section 5."""
    assert decode_untrusted(b'[{"n":"a","vd":"%s"}]' % text.encode()) == [{0: "a", 8: data}]
    record = Record("d/a", None, None, None, None, data, None, 1.79e9, None)
    assert to_json([record]) == [{"n": "d/a", "vd": text, "t": 1.79e9}]


def test_resolved_json_has_what_the_record_has() -> None:
    """And nothing that it has not: no base fields, no null."""
    assert to_json(
        [
            Record("d/hr", "1/min", 0, None, None, None, 0, 1.79e9, 0),
            Record("d/contact", None, None, None, False, None, None, 1.79e9, None),
            Record("d/rhythm", None, None, "", None, None, None, 1.79e9, None),
        ]
    ) == [
        {"n": "d/hr", "u": "1/min", "v": 0, "s": 0, "t": 1.79e9, "ut": 0},
        {"n": "d/contact", "vb": False, "t": 1.79e9},
        {"n": "d/rhythm", "vs": "", "t": 1.79e9},
    ]
