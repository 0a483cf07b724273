"""Every benchmark runs and says what it has measured; how fast is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOP = Path(__file__).parents[2]
_WITHIN_S = 240.0
"""On a busy host."""
_OURS = "ward-gateway"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Any]:
    """Runs one benchmark quickly: what it prints, and its figures."""

    def run(name: str) -> tuple[str, dict[str, Any]]:
        figures = tmp_path / "figures.json"
        done = subprocess.run(
            [
                *(sys.executable, str(_TOP / "scripts" / "benchmarks" / "main.py")),
                *(name, "--quick", "--json", str(figures)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(figures.read_text())[name]
        for peer in report.get("skipped", ()):
            assert f"skipped: {peer}" in done.stdout
        return done.stdout, report

    yield run
    assert not list(tmp_path.glob("ward-gateway-bench-*")), "a ward was left behind"


def test_ingest_compares_acknowledged_requests(bench: Any) -> None:
    said, report = bench("ingest")
    ours = report["servers"][_OURS]
    assert ours["rate"]["median"] > 0
    assert ours["cpu_us"]["median"] > 0
    assert ours["unanswered"]["max"] == 0
    assert ours["refused"] == 0
    assert said.count("acknowledged/s") == 1
    for peer in report["servers"]:
        assert peer == _OURS or f"ward-gateway / {peer}: rate" in said


def test_end_to_end_waits_until_the_cloud_store_has_everything(bench: Any) -> None:
    said, report = bench("end-to-end")
    ours = report["servers"][_OURS]
    assert ours["unanswered"]["max"] == 0
    assert ours["refused"] == 0
    assert ours["behind_s"]["median"] > 0
    assert "ward-gateway / ingest alone: rate" in said


def test_alarm_finds_every_emergency_in_the_cloud_store(bench: Any) -> None:
    said, report = bench("alarm")
    rows = [*report["floods"], report["backlog"]]
    for row in rows:
        assert row["emergencies"] == row["acknowledged"] == row["uploaded"] > 0
        assert row["upload_ms"]["max"] > 0
    flooded = report["floods"][-1]
    assert flooded["routine_sent"] > report["capacity"] * report["window_s"]
    assert "waiting" in said


def test_handshakes_of_both_kinds_are_finished(bench: Any) -> None:
    _, report = bench("handshake")
    assert len(report["suites"]) == 2
    for servers in report["suites"].values():
        assert servers[_OURS]["rate"]["median"] > 0
        assert servers[_OURS]["failed"]["max"] == 0


def test_memory_is_counted_by_association(bench: Any) -> None:
    said, report = bench("memory")
    rows = report["servers"][_OURS]["counts"]
    assert [int(count) for count in rows] == report["counts"]
    assert all(row["talked"] >= row["at_start"] > 0 for row in rows.values())
    hours = report["hours"]
    assert hours["messages"] == 4 * hours["bracelets"] * hours["packs"]
    assert "KiB an association" in said


def test_growth_is_measured_and_drawn(bench: Any) -> None:
    _, report = bench("growth")
    assert len(report["associations"]) == 2
    assert list(report["outbox"]) == ["1000"]
    drawn = report["plot"]
    if not drawn.endswith(".png"):
        pytest.skip(drawn)
    assert Path(drawn).read_bytes().startswith(b"\x89PNG")


def test_each_step_of_the_path_has_a_time(bench: Any) -> None:
    said, report = bench("steps")
    assert all(step["us"]["median"] > 0 for step in report["steps"].values())
    assert all(name in said for name in report["steps"])


def test_workers_are_compared_with_one_process(bench: Any) -> None:
    said, report = bench("workers")
    servers = report["servers"]
    assert {"workers = 1", "workers = 2"} <= set(servers)
    for row in servers.values():
        assert row["rate"]["median"] > 0
        assert (row["unanswered"]["max"], row["refused"]) == (0, 0)
    assert "workers = 2 / workers = 1: rate" in said
