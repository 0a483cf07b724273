"""The units of systemd: understood by its own tool, and narrow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_UNITS = sorted((Path(__file__).parents[2] / "configs").glob("*.service"))
_MOST_EXPOSED = 2.0


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    return program


@pytest.mark.parametrize("unit", _UNITS, ids=lambda path: path.name)
def test_a_unit_is_understood(unit: Path, analyze: str, tmp_path: Path) -> None:
    """Where the program would be, there is one."""
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/ward-gateway/bin/ward-gateway", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", _UNITS, ids=lambda path: path.name)
def test_a_unit_exposes_little(unit: Path, analyze: str) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={_MOST_EXPOSED * 10:.0f}", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]


def test_there_are_units() -> None:
    assert len(_UNITS) == 2


_MDWE = """
import ctypes, os, sys
PR_SET_MDWE = 65
if ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
    sys.exit(3)
from gateway.dtls import selftest
selftest.all_suites(os.urandom)
"""


def test_the_reason_against_memory_deny_write_execute_holds() -> None:
    """If this fails, the libraries have learnt to do without: the unit can then say =yes."""
    done = subprocess.run(
        [sys.executable, "-c", _MDWE], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert "write+execute memory" in done.stderr, done.stderr
    text = next(one for one in _UNITS if one.name == "ward-gateway.service").read_text()
    assert "\nMemoryDenyWriteExecute=yes" not in text
