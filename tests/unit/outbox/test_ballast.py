"""gateway.outbox.ballast"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gateway.outbox.ballast import Ballast, share

if TYPE_CHECKING:
    from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20


class Disk:
    """A partition of the size that a test wants, whose files are real."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.size = size
        self.taken = 0

    def statvfs(self, _: object) -> SimpleNamespace:
        free = self.size - self.taken - sum(one.stat().st_size for one in self._folder.iterdir())
        return SimpleNamespace(f_blocks=self.size // 512, f_bavail=free // 512, f_frsize=512)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(tmp_path, 8 * MIB)
    monkeypatch.setattr(os, "statvfs", made.statvfs)
    return made


def test_size_follows_the_partition_and_the_quota(tmp_path: Path, disk: Disk) -> None:
    Ballast(tmp_path / "a.db").keep(1 << 30)
    assert (tmp_path / "a.ballast").stat().st_size == share(tmp_path) == MIB
    Ballast(tmp_path / "b.db").keep(800 * KIB)
    assert (tmp_path / "b.ballast").stat().st_size == 100 * KIB
    disk.size = 1 << 40
    Ballast(tmp_path / "c.db").keep(1 << 30)
    assert (tmp_path / "c.ballast").stat().st_size == 16 * MIB
    assert not os.stat(tmp_path / "c.ballast").st_mode & 0o077


def test_what_takes_nothing_in_has_none(tmp_path: Path, disk: Disk) -> None:
    ballast = Ballast(tmp_path / "outbox.db")
    ballast.keep(1)
    assert ballast.held
    assert not ballast.give_up()
    assert list(tmp_path.iterdir()) == []


def test_room_is_what_is_free_beside_ballast_and_margin(tmp_path: Path, disk: Disk) -> None:
    ballast = Ballast(tmp_path / "outbox.db")
    ballast.keep(1 << 30)
    assert ballast.held
    assert ballast.room() == 6 * MIB
    disk.taken = 7 * MIB
    assert ballast.room() == -MIB, "the disk is full, and the ballast is no room for rows"


def test_given_up_and_made_again_when_there_is_room(tmp_path: Path, disk: Disk) -> None:
    ballast = Ballast(tmp_path / "outbox.db")
    ballast.keep(1 << 30)
    disk.taken = 7 * MIB
    assert ballast.give_up()
    assert not ballast.held
    assert ballast.room() == 0, "what it leaves is the margin"
    assert not ballast.give_up(), "once"
    disk.taken = 6 * MIB
    ballast.room()
    assert ballast.held
    assert (tmp_path / "outbox.ballast").stat().st_size == MIB


def test_it_outlives_the_process(tmp_path: Path, disk: Disk) -> None:
    Ballast(tmp_path / "outbox.db").keep(1 << 30)
    disk.taken = 7 * MIB
    later = Ballast(tmp_path / "outbox.db")
    later.keep(1 << 30)
    assert later.held
    assert later.give_up()
    after = Ballast(tmp_path / "outbox.db")
    after.keep(1 << 30)
    assert not after.held
