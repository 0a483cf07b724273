"""The demonstration, as its own judge and as its reader sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.acceptance.ward import run

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


def test_ctrl_c_leads_to_the_summary(tmp_path: Path) -> None:
    """As a terminal does it: to everything that was started there."""
    folder = tmp_path / "demo"
    words = ("demo", "--nodes", "2", "--speed", "3", "--dir", str(folder))
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *words],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "acknowledged 2" in line:
                os.killpg(demo.pid, signal.SIGINT)
                break
        rest = demo.stdout.read()
    assert "Every acknowledged record was read back and opened." in rest
    assert demo.returncode == 0
