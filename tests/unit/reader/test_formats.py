"""What people and programs see."""

from __future__ import annotations

import json

import pytest

import gateway.reader.formats
from gateway.lane import Lane
from gateway.reader.formats import formats
from gateway.reader.opening import Opened
from gateway.registry import load_all
from gateway.senml.record import Record

load_all(gateway.reader.formats)

AT_MS = 1_790_000_000_007  # 2026-09-21T14:13:20.007Z


def measured(label: str, value: float, unit: str | None) -> Record:
    return Record(f"bracelet-1/{label}", unit, value, None, None, None, None, 1.79e9, None)


def said(label: str, text: str) -> Record:
    return Record(f"bracelet-1/{label}", None, None, text, None, None, None, 1.79e9, None)


RECORD = Opened(
    id=b"i" * 16,
    gateway="gateway-1",
    device="bracelet-1",
    patient="bed-3",
    lane=Lane.EMERGENCY,
    received_ms=AT_MS,
    clock="synchronised",
    records=(
        measured("hr", 182, "1/min"),
        measured("spo2", 91, "/100"),
        measured("temp", 36.6, "Cel"),
        measured("rr", 330, "ms"),
        measured("rr", 340, "ms"),
        said("rhythm", "VT"),
        Record("bracelet-1/contact", None, None, None, True, None, None, 1.79e9, None),
    ),
    sealed=None,
    assessment={
        "priority": "emergency",
        "findings": [
            {
                "rule": "extreme_tachycardia",
                "priority": "emergency",
                "detail": "17 beats in a row at 182 a minute and more than that",
                "since": 1_789_999_995.5,
            }
        ],
        "news2": {"score": 7, "red": True, "missing": ["resp", "sbp"]},
    },
)
NODE_SEALED = RECORD._replace(records=None, sealed=(16, b"\x00\x01"), assessment=None)


def shown(name: str, *records: Opened, width: int = 80) -> list[str]:
    chosen = formats.get(name)(width)
    return [line for record in records for line in chosen.lines(record)]


def test_jsonl_has_the_contract_s_fields_in_their_order() -> None:
    """Programs rely on them."""
    [line] = shown("jsonl", RECORD)
    found = json.loads(line)
    assert list(found) == [
        "id",
        "gateway",
        "device",
        "patient",
        "lane",
        "received",
        "clock",
        "senml",
        "assessment",
    ]
    assert found["id"] == "69" * 16
    assert found["received"] == "2026-09-21T14:13:20.007Z"
    assert found["lane"] == "emergency"
    assert found["senml"][0] == {"n": "bracelet-1/hr", "u": "1/min", "v": 182, "t": 1.79e9}
    assert found["assessment"] == RECORD.assessment


def test_jsonl_carries_what_the_node_sealed() -> None:
    """``senml`` is null then."""
    [line] = shown("jsonl", NODE_SEALED)
    found = json.loads(line)
    assert found["senml"] is None
    assert found["sealed"] == {"content_format": 16, "message": "AAE="}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_999, "2026-09-21T14:13:20.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_milliseconds_are_exact(milliseconds: int, text: str) -> None:
    """No rounding by way of a float."""
    [line] = shown("jsonl", RECORD._replace(received_ms=milliseconds))
    assert json.loads(line)["received"] == text


def test_senml_is_one_resolved_pack_a_line() -> None:
    """And nothing for a record that has none."""
    [line] = shown("senml", RECORD)
    assert [record["n"] for record in json.loads(line)][:2] == ["bracelet-1/hr", "bracelet-1/spo2"]
    assert shown("senml", NODE_SEALED) == []


def test_the_table_looks_like_this() -> None:
    """At 80 columns."""
    next_day = RECORD._replace(
        received_ms=AT_MS + 86_400_000,
        patient="a-very-long-patient",
        records=(measured("hr", 72, "1/min"),),
        assessment={"priority": "routine", "findings": [], "news2": None},
    )
    lines = shown("table", RECORD, NODE_SEALED, next_day)
    assert "\n".join(lines) == EXPECTED
    assert max(map(len, lines)) <= 80


EXPECTED = """\
2026-09-21 (UTC)
time         patient    device       priority  values
14:13:20.007 bed-3      bracelet-1   EMERGENCY hr 182/min  spo2 91%
                                               temp 36.6 °C
                                               rr 340 ms (last of 2)  rhythm VT
                                               contact yes
             - extreme_tachycardia: 17 beats in a row at 182 a minute and more
               than that (since 14:13:15)
             - NEWS2 7, one item alone scores 3, without resp, sbp
14:13:20.007 bed-3      bracelet-1   EMERGENCY sealed by its node: 2 bytes of
                                               Content-Format 16
2026-09-22 (UTC)
time         patient    device       priority  values
14:13:20.007 a-very-lo… bracelet-1   routine   hr 72/min"""


def test_a_wide_terminal_is_used() -> None:
    """Fewer lines for the same."""
    assert len(shown("table", RECORD, width=200)) < len(shown("table", RECORD, width=80))


def test_a_narrow_one_is_not_worse_than_it_must_be() -> None:
    """The columns stay; every value is still there."""
    text = "\n".join(shown("table", RECORD, width=20))
    for part in ("hr 182/min", "spo2 91%", "rhythm VT"):
        assert part in text


@pytest.mark.parametrize("name", ["table", "jsonl", "senml"])
def test_nothing_that_was_sent_steers_the_terminal(name: str) -> None:
    """Escape sequences, line ends and reordering marks from devices and names."""
    evil = "\x1b[2J\r\n\u202e\x9b\x07"
    found = {"priority": evil, "findings": [{"rule": evil, "detail": evil, "since": 0}]}
    record = RECORD._replace(
        patient=evil, device=f"b{evil}", records=(said("text", evil),), assessment=found
    )
    for line in shown(name, record):
        assert line.isprintable()


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"priority": 7, "findings": 7, "news2": 7},
        {"findings": [7, {}, {"since": "x"}, {"since": -1}, {"since": 1e300}]},
        {"news2": {"missing": 7}},
    ],
)
def test_an_assessment_that_makes_no_sense_does_not_hide_the_vitals(
    found: dict[str, object],
) -> None:
    """A later gateway may say what this reader does not know."""
    assert "hr 182/min" in "\n".join(shown("table", RECORD._replace(assessment=found)))
