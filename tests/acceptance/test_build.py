"""Compiled or interpreted: the gateway says which one it is. Run with either build."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Ward

_TOP = Path(__file__).parents[2]
_BENCH_WITHIN_S = 60.0


def _compiled() -> bool:
    """By what the import system would load, in this environment as in the gateway's process."""
    spec = importlib.util.find_spec("gateway.intake")
    assert spec is not None
    return isinstance(spec.loader, ExtensionFileLoader)


def test_check_and_status_say_which_build_it_is(running: Ward) -> None:
    rows = {row["check"]: row for row in json.loads(running.ask("check", "--json"))}
    assert rows["build"]["result"] == "ok"
    said = "compiled" if _compiled() else "interpreted"
    assert rows["build"]["detail"].startswith(f"the hot path is {said}")
    assert running.status()["build"] == said


@pytest.mark.skipif(not _compiled(), reason="nothing compiled to measure it beside")
@pytest.mark.parametrize("name", ["ingest", "steps"])
def test_a_benchmark_tells_both_builds(name: str, tmp_path: Path) -> None:
    """Where the compiled gateway is measured, the interpreted one of the checkout is beside it."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(str(_TOP / ".venv/bin/python"), str(_TOP / "scripts/benchmarks/main.py")),
            *(name, "--quick", "--python", sys.executable, "--json", str(figures)),
        ],
        cwd=tmp_path,
        # The programs there are no package: they find each other by their folder.
        env={key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"},
        capture_output=True,
        text=True,
        timeout=_BENCH_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(figures.read_text())
    assert report["machine"]["gateway"] == "compiled"
    if name == "ingest":
        rows = report[name]["servers"]
        assert rows["ward-gateway"]["rate"]["median"] > 0
        assert rows["ward-gateway, interpreted"]["rate"]["median"] > 0
        assert "ward-gateway / ward-gateway, interpreted: rate" in done.stdout
    else:
        assert report[name]["steps"].keys() == report[name]["interpreted"].keys()
        assert "interpreted: " in done.stdout
