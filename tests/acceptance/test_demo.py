"""The demonstration, as its own judge and as its reader sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.conftest import run

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demonstration_ends_well(tmp_path: Path) -> None:
    """Every acknowledged pack is read back once, and the sinus arrest of bed-1 is an alarm."""
    words = ("demo", "--for", "5", "--speed", "3", "--nodes", "3", "--json")
    words += ("--dir", str(tmp_path / "demo"))
    summary = json.loads(run(*words))
    assert summary["complete"] is True
    assert summary["sent"] == summary["acknowledged"] == summary["stored"] >= 3 * 11
    assert summary["missing"] == summary["doubled"] == 0
    opened = summary["opened"]
    assert opened["doctor"] + opened["alarm-centre"] == summary["acknowledged"]
    assert opened["patient"] == summary["acknowledged"] / 3
    [asystole] = [alarm for alarm in summary["alarms"] if alarm["rule"] == "asystole"]
    assert (asystole["patient"], asystole["device"]) == ("bed-1", "bracelet-1")
    assert summary["latency_ms"]["count"] == opened["alarm-centre"]
