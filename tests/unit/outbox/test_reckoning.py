"""gateway.outbox.reckoning"""

from __future__ import annotations

import pytest

from gateway.outbox.reckoning import reckon


@pytest.mark.parametrize(
    ("rows", "highest", "ledger", "mark", "expected"),
    [
        pytest.param(10, 20, (20, 10), (20, 10), (20, 10, 0), id="all is well"),
        pytest.param(10, 20, (20, 10), None, (20, 10, 0), id="no mark"),
        pytest.param(10, 20, (20, 10), (15, 9), (20, 10, 0), id="the mark is older"),
        pytest.param(7, 20, (20, 10), (20, 10), (20, 13, 3), id="rows are gone"),
        pytest.param(7, 20, (20, 10), None, (20, 13, 3), id="rows are gone, no mark"),
        pytest.param(4, 14, (14, 10), (20, 10), (20, 16, 6), id="transactions are gone"),
        pytest.param(4, 14, (14, 10), (20, 18), (20, 16, 2), id="and most of them were settled"),
        pytest.param(10, 20, (20 + (1 << 40), 10), (20, 10), (20, 10, 0), id="last, a bit set"),
        pytest.param(10, 20, (4, 10), (20, 10), (20, 10, 0), id="last, a bit cleared"),
        pytest.param(10, 20, (20, 2), (20, 10), (20, 10, 0), id="removed, a bit cleared"),
        pytest.param(10, 20, (20, 26), (20, 10), (20, 10, 0), id="removed, a bit set"),
        pytest.param(7, 30, (30, 20), (15, 8), (30, 23, 3), id="an old mark is right by chance"),
        pytest.param(12, 20, (20, 10), None, (20, 8, 0), id="more rows than promised"),
    ],
)
def test_what_is_missing(
    rows: int,
    highest: int,
    ledger: tuple[int, int],
    mark: tuple[int, int] | None,
    expected: tuple[int, int, int],
) -> None:
    assert reckon(rows, highest, ledger, mark) == expected
