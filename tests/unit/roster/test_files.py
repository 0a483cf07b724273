"""A roster file: private, replaced as a whole, changed by one program at a time."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.errors import ConfigError
from gateway.roster import files

if TYPE_CHECKING:
    from pathlib import Path

CHANGE_MANY = """
import sys
from pathlib import Path
from gateway.roster import files
path, who, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(times):
    with files.change(path) as entries:
        entries[f"{who}-{number}"] = {"sum": len(entries)}
"""

DIE_IN_FSYNC = """
import os, sys
from pathlib import Path
from gateway.roster import files
left = int(sys.argv[2])
real = os.fsync
def fsync(number):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    real(number)
os.fsync = fsync
with files.change(Path(sys.argv[1])) as entries:
    entries["b"] = {}
"""


def _python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "devices.json"


def test_a_roster_that_is_not_there_is_empty(path: Path) -> None:
    assert files.read(path) == {}
    assert files.stamp(path) is None


def test_what_was_changed_is_read_back(path: Path) -> None:
    with files.change(path) as entries:
        entries["a"] = {"patient": "Ä"}
    with files.change(path) as entries:
        assert entries == {"a": {"patient": "Ä"}}
        entries["b"] = {}
    assert files.read(path) == {"a": {"patient": "Ä"}, "b": {}}
    assert json.loads(path.read_text())["version"] == files.VERSION


def test_only_the_owner_may_read_it(path: Path) -> None:
    """Whatever the umask: the file holds pre-shared keys."""
    old = os.umask(0)
    try:
        with files.change(path) as entries:
            entries["a"] = {}
    finally:
        os.umask(old)
    assert {one.name for one in path.parent.iterdir()} == {"devices.json", "devices.lock"}
    for one in path.parent.iterdir():
        assert stat.S_IMODE(one.stat().st_mode) == 0o600, one


def test_a_block_that_fails_changes_nothing(path: Path) -> None:
    with files.change(path) as entries:
        entries["a"] = {}
    before = path.read_bytes(), files.stamp(path)

    def fail() -> None:
        with files.change(path) as entries:
            entries["b"] = {}
            raise KeyError("b")

    with pytest.raises(KeyError):
        fail()
    assert (path.read_bytes(), files.stamp(path)) == before
    with files.change(path) as entries:  # the lock is free again
        assert entries == {"a": {}}


def test_the_stamp_changes_with_the_file(path: Path) -> None:
    stamps = set()
    for number in range(5):
        with files.change(path) as entries:
            entries[str(number)] = {}
        stamps.add(files.stamp(path))
    assert len(stamps) == 5
    assert files.stamp(path) in stamps


def test_two_programs_lose_no_change_of_each_other(path: Path) -> None:
    programs = [_python(CHANGE_MANY, path, who, 25) for who in ("left", "right")]
    assert [one.wait(timeout=30) for one in programs] == [0, 0]
    entries = files.read(path)
    assert set(entries) == {f"{who}-{n}" for who in ("left", "right") for n in range(25)}
    # Each saw all that came before it: no change was made to an outdated copy.
    assert sorted(one["sum"] for one in entries.values()) == list(range(50))


@pytest.mark.parametrize(
    ("syncs", "left"),
    [(0, {"a"}), (1, {"a", "b"}), (2, {"a", "b"})],
    ids=["before the file is on disk", "before its name is", "not at all"],
)
def test_a_crash_leaves_the_old_or_the_new(path: Path, syncs: int, left: set[str]) -> None:
    """Never a half, and the next change works."""
    with files.change(path) as entries:
        entries["a"] = {}
    assert _python(DIE_IN_FSYNC, path, syncs).wait(timeout=30) == (9 if syncs < 2 else 0)
    assert set(files.read(path)) == left
    with files.change(path) as entries:
        entries["c"] = {}
    assert set(files.read(path)) == left | {"c"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"version": 2, "entries": {}}',
        b'{"version": 1}',
        b'{"version": 1, "entries": []}',
        b'{"version": 1, "entries": {"a": 1}}',
    ],
)
def test_a_damaged_file_is_refused_and_not_overwritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"devices\.json: .*restore it from a backup"):
        files.read(path)

    def change() -> None:
        with files.change(path) as entries:
            entries["a"] = {}

    with pytest.raises(ConfigError):
        change()
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    def change() -> None:
        with files.change(tmp_path / "nowhere" / "devices.json"):
            pytest.fail("must not come here")

    with pytest.raises(ConfigError, match=r"cannot be written \(No such file or directory\)"):
        change()
