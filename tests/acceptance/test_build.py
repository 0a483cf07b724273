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
    from tests.acceptance.ward import Ward

_TOP = Path(__file__).parents[2]
_CHECKOUT = str(_TOP / ".venv/bin/python")
"""Where the checkout is installed editable, and so interpreted."""

_PACKS = 4000
_BENCH_WITHIN_S = 60.0


def _compiled() -> bool:
    """By what the import system would load, in this environment as in the gateway's process."""
    spec = importlib.util.find_spec("gateway.intake")
    assert spec is not None
    return isinstance(spec.loader, ExtensionFileLoader)


beside_the_compiled = pytest.mark.skipif(
    not _compiled(),
    reason="compares the compiled build with the checkout, and this is the checkout",
)


def test_check_and_status_say_which_build_it_is(running: Ward) -> None:
    rows = {row["check"]: row for row in json.loads(running.ask("check", "--json"))}
    assert rows["build"]["result"] == "ok"
    said = "compiled" if _compiled() else "interpreted"
    assert rows["build"]["detail"].startswith(f"the hot path is {said}")
    assert running.status()["build"] == said


@beside_the_compiled
def test_both_builds_make_the_same_bytes() -> None:
    """Of packs good and bad, from the datagram to the sealed record and the answer."""
    compiled, interpreted = (
        subprocess.run(
            [python, "-P", Path(__file__).with_name("pure_path.py"), "7", str(_PACKS)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        for python in (sys.executable, _CHECKOUT)
    )
    assert len(interpreted) > 2 * _PACKS
    assert compiled == interpreted


@beside_the_compiled
@pytest.mark.parametrize("name", ["ingest", "steps"])
def test_a_benchmark_tells_both_builds(name: str, tmp_path: Path) -> None:
    """Where the compiled gateway is measured, the interpreted one of the checkout is beside it."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(_CHECKOUT, str(_TOP / "scripts/benchmarks/main.py")),
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
