"""setup.py: what is compiled when, and that a source distribution holds all that a build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_TOP = Path(__file__).parents[2]
_PACKAGES = ("certs", "cloud", "gateway", "proxy")
_NO_COMPILER = {"CC": "no-such-compiler"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the checkout: a build leaves files behind."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("README.md", "pyproject.toml", "setup.py"):
        shutil.copy(_TOP / name, tree)
    for name in _PACKAGES:
        shutil.copytree(_TOP / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def _build(
    tree: Path, kind: str, into: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """``kind``: wheel, editable or sdist, as pip asks for it (PEP 517, PEP 660)."""
    into.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"
    return subprocess.run(
        [sys.executable, "-c", code, str(into)],
        cwd=tree,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _built(tree: Path, kind: str, into: Path, environment: dict[str, str]) -> Path:
    done = _build(tree, kind, into, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = into.iterdir()
    return made


def test_an_editable_install_stays_interpreted(tree: Path, tmp_path: Path) -> None:
    """What runs is what was last saved, also where there is a compiler."""
    wheel = _built(tree, "editable", tmp_path / "built", {})
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not list(tree.rglob("*.so"))


def test_without_a_compiler_a_wheel_is_interpreted(tree: Path, tmp_path: Path) -> None:
    wheel = _built(tree, "wheel", tmp_path / "built", _NO_COMPILER)
    assert wheel.name.endswith("-py3-none-any.whl")


def test_who_wants_it_compiled_is_told_what_is_missing(tree: Path, tmp_path: Path) -> None:
    done = _build(tree, "wheel", tmp_path / "built", _NO_COMPILER | {"WARD_GATEWAY_COMPILE": "1"})
    assert done.returncode != 0
    assert "cannot compile: no-such-compiler" in done.stderr
    assert not list((tmp_path / "built").iterdir())


def test_a_source_distribution_is_complete(tree: Path, tmp_path: Path) -> None:
    """A wheel made of it has every file of the packages; setup.py is there to compile it."""
    files = {
        str(path.relative_to(tree))
        for package in _PACKAGES
        for path in (tree / package).rglob("*")
        if path.is_file()
    }
    sdist = _built(tree, "sdist", tmp_path / "sdist", {})
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    assert (unpacked / "setup.py").read_text() == (tree / "setup.py").read_text()
    wheel = _built(unpacked, "wheel", tmp_path / "built", {"WARD_GATEWAY_COMPILE": "0"})
    with zipfile.ZipFile(wheel) as archive:
        assert files <= set(archive.namelist())
