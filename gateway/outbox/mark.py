"""The high-water mark, in a file of its own beside the database.

One bit that flips in the middle of a write-ahead log makes SQLite forget every transaction after
it, without an error: only something outside the database can tell that rows are missing. The mark
is written after each commit and synced when the outbox is idle, so after a power cut it may be
older than the database, never newer: what it says is missing, is.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

_LAYOUT = Struct("<8sQQ")
_MAGIC = b"WGMARK1\n"


class Mark:
    """28 bytes: magic, last number, how many are removed, checksum. One sector, one write."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be opened or made."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._written: tuple[int, int] | None = None

    def read(self) -> tuple[int, int] | None:
        """(last number, removed), None if there is none or it is damaged."""
        data = os.pread(self._descriptor, _LAYOUT.size + 4, 0)
        body = data[: _LAYOUT.size]
        if len(data) < _LAYOUT.size + 4 or data[_LAYOUT.size :] != _checksum(body):
            return None
        magic, last, removed = _LAYOUT.unpack(body)
        return (last, removed) if magic == _MAGIC else None

    def write(self, last: int, removed: int) -> None:
        """Raises OSError."""
        if self._written != (last, removed):
            body = _LAYOUT.pack(_MAGIC, last, removed)
            os.pwrite(self._descriptor, body + _checksum(body), 0)
            self._written = (last, removed)

    def sync(self) -> None:
        """Raises OSError."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _checksum(body: bytes) -> bytes:
    return crc32(body).to_bytes(4, "little")
