"""One status from several."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gateway.delivery.status import PumpStatus
from gateway.lane import Lane
from gateway.outbox.entry import LaneStatus, Status
from gateway.workers import totals


def _outbox(rows: int, oldest_ms: int | None, notice: str = "") -> dict[str, Any]:
    lane = LaneStatus(rows=rows, size=rows * 10, oldest_ms=oldest_ms, delivered=7, refused=1)
    lanes = {Lane.ROUTINE: lane, Lane.EMERGENCY: LaneStatus()}
    return asdict(Status(lanes=lanes, dead=1, size=rows * 10, max_bytes=500, notice=notice))


def _delivery(**routine: Any) -> dict[str, Any]:
    return {Lane.ROUTINE: asdict(PumpStatus(**routine)), Lane.EMERGENCY: asdict(PumpStatus())}


def _worker(uptime_s: float, **figures: Any) -> dict[str, Any]:
    return {
        "version": "1",
        "listen": ["a", "b"],
        "uptime_s": uptime_s,
        "associations": 3,
        "messages": {"admitted": 5},
        "figure_of_tomorrow": 2,
        "outbox": _outbox(1, 100),
        "delivery": _delivery(),
        "latency_ms": {Lane.ROUTINE: [1.0], Lane.EMERGENCY: []},
        **figures,
    }


def test_figures_of_workers_are_added_and_told_of_each() -> None:
    found = [_worker(9.5), _worker(9.1, messages={"admitted": 2, "repeated": 1}, associations=4)]
    status = totals.of_workers(found)
    assert (status["version"], status["listen"], status["uptime_s"]) == ("1", ["a", "b"], 9.1)
    assert (status["associations"], status["figure_of_tomorrow"]) == (7, 4)
    assert status["messages"] == {"admitted": 7, "repeated": 1}
    assert status["latency_ms"] == {Lane.ROUTINE: [1.0, 1.0], Lane.EMERGENCY: []}
    assert status["outbox"]["lanes"][Lane.ROUTINE]["rows"] == 2
    assert status["workers"] == [
        {"associations": 3, "messages": {"admitted": 5}},
        {"associations": 4, "messages": {"admitted": 2, "repeated": 1}},
    ]


def test_one_outbox_is_what_it_is() -> None:
    alone = _outbox(3, 250, "repaired")
    assert totals.of_outboxes([alone]) == alone
    assert totals.of_deliveries([_delivery(failure="x")]) == _delivery(failure="x")


def test_outboxes_have_the_oldest_of_all_and_every_notice() -> None:
    both = totals.of_outboxes([_outbox(1, None), _outbox(2, 300, "a"), _outbox(4, 200, "b")])
    routine = both["lanes"][Lane.ROUTINE]
    assert (routine["rows"], routine["size"], routine["oldest_ms"]) == (7, 70, 200)
    assert (both["dead"], both["max_bytes"], both["notice"]) == (3, 1500, "a; b")
    assert both["lanes"][Lane.EMERGENCY]["oldest_ms"] is None


def test_deliveries_have_the_worst_state_and_the_last_failure() -> None:
    found = [
        _delivery(state="delivering", last_success=50.0, delivered=5),
        _delivery(
            state="backing off",
            failure="old",
            kind="transient",
            last_failure=10.0,
            failures=3,
            next_try=80.0,
        ),
        _delivery(
            state="idle", failure="new", kind="not_welcome", last_failure=11.0, next_try=70.0
        ),
    ]
    routine = totals.of_deliveries(found)[Lane.ROUTINE]
    assert routine["state"] == "backing off"
    assert (routine["failure"], routine["kind"]) == ("new", "not_welcome")
    assert (routine["last_success"], routine["last_failure"]) == (50.0, 11.0)
    assert (routine["failures"], routine["next_try"], routine["delivered"]) == (3, 70.0, 5)
