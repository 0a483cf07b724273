"""How commands print."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from gateway.cli.output import show, show_one, table, text

ROWS: list[dict[str, Any]] = [
    {"id": "bracelet-1", "patient": "P1", "added": "2026-11-21T05:00:00Z", "revoked": None},
    {"id": "b2", "patient": "Ä" * 64, "added": "2026-11-22T05:00:00Z", "revoked": True},
]


def args(*, as_json: bool) -> argparse.Namespace:
    return argparse.Namespace(json=as_json)


def test_columns_are_aligned_under_their_names() -> None:
    assert table([{"id": "a", "count": 10}, {"id": "longer", "count": None}], 80).split("\n") == [
        "id      count",
        "------  -----",
        "a       10",
        "longer  -",
    ]


@pytest.mark.parametrize("columns", [200, 80, 79, 40, 20, 10, 3])
@pytest.mark.parametrize("names", [2, 4, 7, 12])
def test_a_table_is_never_wider_than_the_terminal(columns: int, names: int) -> None:
    rows = [
        {f"column-{at}": "x" * (at * size % 50) for at in range(names)} for size in range(1, 20)
    ]
    lines = table(rows, columns).split("\n")
    assert max(map(len, lines)) <= columns
    assert len(lines) == len(rows) + 2


def test_the_widest_column_gives_way() -> None:
    lines = table(ROWS, 80).split("\n")
    assert max(map(len, lines)) <= 80
    assert "bracelet-1" in lines[2]
    assert "2026-11-21T05:00:00Z" in lines[2]
    assert "Ä…" in lines[3]


def test_a_table_that_fits_is_not_shortened() -> None:
    rows = [{"a": "x" * 39, "b": "y" * 39}]
    assert table(rows, 80).split("\n")[2] == f"{'x' * 39}  {'y' * 39}"
    assert "…" in table(rows, 79)


def test_a_column_that_matters_goes_on_in_the_next_line() -> None:
    rows = [
        {"check": "disk", "detail": "9 MiB"},
        {"check": "recipients", "detail": "private keys of anna lie here: move them"},
    ]
    assert table(rows, 36, wrapped="detail").split("\n") == [
        "check       detail",
        "----------  ------------------------",
        "disk        9 MiB",
        "recipients  private keys of anna lie",
        "            here: move them",
    ]


@pytest.mark.parametrize("columns", [80, 40, 32, 31, 10, 3])
def test_what_is_wrapped_is_never_wider_than_the_terminal(columns: int) -> None:
    rows = [{"check": "x" * 10, "detail": "words " * size + "y" * 90} for size in range(20)]
    assert max(map(len, table(rows, columns, wrapped="detail").split("\n"))) <= columns


def test_wide_and_combined_letters_keep_the_columns() -> None:
    """An ideograph takes two places, an accent of its own none."""
    lines = table(
        [{"a": "患者", "b": 1}, {"a": "e\u0301e\u0301", "b": 2}, {"a": "abcd", "b": 3}], 80
    )
    assert lines.split("\n")[2:] == ["患者  1", "e\u0301e\u0301    2", "abcd  3"]
    short = table([{"a": "患者患者患者", "b": 1}], 8).split("\n")[2]
    assert short == "患者…  1"


def test_nothing_moves_the_cursor_or_begins_a_line() -> None:
    """The cloud's words, for one, stand in the table of the outbox."""
    found = table([{"a": "x\n\r\x1b[2J\x9b\u2028\u202e"}], 80)
    assert found.count("\n") == 2
    assert all(line.isprintable() for line in found.split("\n"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        ([], "-"),
        (["a", None, 1], "a, -, 1"),
        ({}, "-"),
        ({"no answer": 2, "4.29": 1}, "no answer: 2, 4.29: 1"),
        ((), "-"),
        (0, "0"),
        (1.5, "1.5"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_values_are_read_by_people(value: object, words: str) -> None:
    assert text(value) == words


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is shortened, nothing left out."""
    show(args(as_json=True), ROWS, empty="none", dates=("added",))
    assert json.loads(capsys.readouterr().out) == ROWS
    show(args(as_json=True), [], empty="none")
    assert json.loads(capsys.readouterr().out) == []
    show_one(args(as_json=True), ROWS[0])
    assert json.loads(capsys.readouterr().out) == ROWS[0]


def test_a_table_shows_the_date_of_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    show(args(as_json=False), ROWS[:1], empty="none", dates=("added", "revoked"))
    line = capsys.readouterr().out.split("\n")[2]
    assert line.split() == ["bracelet-1", "P1", "2026-11-21", "-"]


def test_no_rows_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    show(args(as_json=False), [], empty="no devices; add one")
    assert capsys.readouterr().out == "no devices; add one\n"


def test_a_pipe_gets_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show(args(as_json=False), [{"a": "x" * 300, "b": "y" * 300}], empty="")
    assert max(map(len, capsys.readouterr().out.split("\n"))) == 80


def test_one_thing_is_a_list_of_names_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    show_one(args(as_json=False), {"id": "b1", "patient": None})
    assert capsys.readouterr().out == "id       b1\npatient  -\n"
