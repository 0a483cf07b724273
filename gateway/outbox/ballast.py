"""Room that deletes can count on: a file of nothing, given up when the disk is full.

On a full disk SQLite can neither insert nor delete nor fold its log: each takes some pages first.
An outbox on a disk that somebody else has filled could then never become empty again. With the
ballast gone there are pages for that, and nothing new is taken until it has been made again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 16 << 20
"""Twice what the log grows to: it, and what it is folded into."""

_SHARE = 8
"""On a small partition, an eighth of it."""


def share(folder: Path) -> int:
    """Bytes of its partition for a ballast, and as many for the log. Raises OSError."""
    return _share(os.statvfs(folder))


def _share(disk: os.statvfs_result) -> int:
    return min(_MOST_BYTES, disk.f_blocks * disk.f_frsize // _SHARE)


class Ballast:
    """Beside the outbox, under its name with ``.ballast``. It stays when the gateway ends."""

    def __init__(self, outbox: Path) -> None:
        """Makes nothing yet: :meth:`keep` does."""
        self._path = outbox.with_suffix(".ballast")
        self._size = 0
        self.held = True
        """Whether it is there, as far as there is to be one."""

    def keep(self, quota: int) -> None:
        """From now on there is to be one, in proportion to what the outbox may hold (bytes).

        Raises OSError."""
        self._size = min(share(self._path.parent), quota // _SHARE)
        try:
            self.held = self._path.stat().st_size >= self._size
        except FileNotFoundError:
            self.held = not self._size
        self.room()

    def room(self) -> int:
        """Bytes of the partition that rows can take, less a margin for the log; below 0 when even
        that is used. Makes the ballast again if there is room for both. Raises OSError."""
        disk = os.statvfs(self._path.parent)
        margin = _share(disk)
        free = disk.f_bavail * disk.f_frsize
        if not self.held and free - self._size >= margin // 2 and self._make():
            self.held = True
            free -= self._size
        return free - margin

    def give_up(self) -> bool:
        """Whether there was one: the disk has room again then."""
        try:
            self._path.unlink()
        except OSError:
            return False
        self.held = not self._size
        return True

    def _make(self) -> bool:
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self._size)
            finally:
                os.close(file)
        except OSError:
            self.give_up()  # half of one would not count and take room all the same
            return False
        return True
