"""A disk in memory under a SQLite of its own, whose power can be cut and whose calls can fail.

SQLite of the Python standard library takes no virtual file system from Python, so the store gets a
connection of apsw instead, through its seam (`gateway.outbox.connection`). What is on the disk
after a cut is written to real files, and opened with the product's own SQLite.

Of each file the disk knows what a process sees, what is durable (what the last sync left) and what
was written since. After a cut a file holds what is durable and any part of the rest, by sectors:
lost, torn and reordered writes. Not modelled: a disk that lies about syncing, a delete that is
undone. The mark beside the database is written through `os`; it goes through the same cut.
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.outbox import mark

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from gateway.outbox.connection import Connection

MEMORY = Path("/dev/shm")
"""Where to write what is left: it is read, not cut again, and need not wait for a real disk."""

SECTOR = 512
_VFS = "ward-gateway-disk"
_POWERSAFE_OVERWRITE = 0x1000
"""What SQLite's own file system claims: a torn write harms nothing beside it."""


def missing() -> str | None:
    """For `Experiment.needs`."""
    return None if importlib.util.find_spec("apsw") else "apsw is not installed"


class File:
    """One file; ``pending`` holds writes (offset, bytes) and truncations (a size)."""

    def __init__(self, content: bytes | None = None) -> None:
        self.seen = bytearray(content or b"")
        self.durable = content
        """None: never synced, so not even its name need be there."""

        self.pending: list[tuple[int, bytes] | int] = []

    def write(self, offset: int, data: bytes) -> None:
        _write(self.seen, offset, data)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.pending.append(size)

    def sync(self) -> None:
        self.durable = bytes(self.seen)
        self.pending.clear()

    def lose_pending(self) -> None:
        """A failed sync: the system takes the pages for clean, and never writes them."""
        self.pending.clear()

    def after_a_cut(self, source: random.Random) -> bytes | None:
        """What is there when the power is back; None: nothing."""
        if self.durable is None and source.random() < 0.5:
            return None
        pieces = [piece for one in self.pending for piece in _sectors(one)]
        kind = source.choice(("none", "all", "half", "half", "prefix"))
        if kind == "none":
            pieces = []
        elif kind == "half":
            pieces = [piece for piece in pieces if source.random() < 0.5]
        elif kind == "prefix":
            pieces = pieces[: source.randint(0, len(pieces))]
        image = bytearray(self.durable or b"")
        for piece in pieces:
            if isinstance(piece, int):
                del image[piece:]
            else:
                _write(image, *piece)
        return bytes(image)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _sectors(one: tuple[int, bytes] | int) -> Iterator[tuple[int, bytes] | int]:
    if isinstance(one, int):
        yield one
        return
    offset, data = one
    while data:
        room = SECTOR - offset % SECTOR
        yield offset, data[:room]
        offset, data = offset + room, data[room:]


class DiskError(OSError):
    """What the process gets to see of a failing disk."""


class Disk:
    """All files. ``fails(kind, name, n)`` says whether operation ``n`` (a write, a truncation, a
    sync or a delete of a file) fails; with ``cut`` the power is gone from the first failure on."""

    def __init__(self, fails: Callable[[str, str, int], bool], *, cut: bool) -> None:
        self.files: dict[str, File] = {}
        self.operations = 0
        self.failed: list[str] = []
        """Kind and file of each operation that failed."""

        self.synced_nothing = False
        """Whether the first that failed was a sync with nothing to write."""

        self._fails = fails
        self._cut = cut
        self._silent = False

    def load(self, *paths: Path) -> None:
        """What is on the real disk is on this one, durable."""
        for path in paths:
            if path.exists():
                self.files[str(path)] = File(path.read_bytes())

    def keep(self, source: random.Random | None) -> None:
        """Write what is there after a cut to the real disk. None: the least that can be there."""
        for name, file in self.files.items():
            content = file.durable if source is None else file.after_a_cut(source)
            if content is None:
                if os.path.exists(name):
                    os.unlink(name)
            else:
                with open(name, "wb") as real:
                    real.write(content)

    def silence(self) -> None:
        """From now on nothing fails and nothing is kept: for tidying up after a cut."""
        self._silent = True

    def happens(self, kind: str, name: str) -> bool:
        """Count an operation. Whether it reaches the disk. Raises DiskError when it fails."""
        if self._silent:
            return False
        self.operations += 1
        if (self._cut and self.failed) or self._fails(kind, name, self.operations):
            if not self.failed:
                self.synced_nothing = kind == "sync" and not self.files[name].pending
            self.failed.append(f"{kind} of {os.path.basename(name)}")
            if kind == "sync":
                self.files[name].lose_pending()
            raise DiskError(5, "the disk fails")
        return True


class _MarkCalls:
    """`os` as `gateway.outbox.mark` uses it: one small file, on the disk."""

    O_RDWR, O_CREAT, O_CLOEXEC = os.O_RDWR, os.O_CREAT, os.O_CLOEXEC

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._names: dict[int, str] = {}

    def open(self, path: Path, flags: int, mode: int) -> int:
        name = str(path)
        self._disk.files.setdefault(name, File())
        self._names[len(self._names)] = name
        return len(self._names) - 1

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return bytes(self._disk.files[self._names[descriptor]].seen[offset : offset + size])

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        name = self._names[descriptor]
        if self._disk.happens("write", name):
            self._disk.files[name].write(offset, data)
        return len(data)

    def fsync(self, descriptor: int) -> None:
        name = self._names[descriptor]
        if self._disk.happens("sync", name):
            self._disk.files[name].sync()

    def close(self, descriptor: int) -> None:
        pass


@contextmanager
def in_place(disk: Disk, *, checkpoint_pages: int) -> Iterator[Callable[[Path], Connection]]:
    """Within the block the mark lives on the disk; the connections to be made with the yielded
    function do too. They checkpoint after so many pages of log instead of SQLite's 1000."""
    import apsw  # noqa: PLC0415: see `missing`

    codes = {
        "write": apsw.SQLITE_IOERR_WRITE,
        "truncate": apsw.SQLITE_IOERR_TRUNCATE,
        "sync": apsw.SQLITE_IOERR_FSYNC,
        "delete": apsw.SQLITE_IOERR_DELETE,
    }

    def happens(kind: str, name: str) -> bool:
        try:
            return disk.happens(kind, name)
        except DiskError as error:
            failure = apsw.IOError(str(error))
            failure.extendedresult = codes[kind]
            raise failure from None

    class Open:
        """A file that SQLite has open."""

        def __init__(self, name: str, file: File) -> None:
            self._name, self._file = name, file

        def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
            return bytes(self._file.seen[offset : offset + amount])

        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
            if self._happens("write"):
                self._file.write(offset, bytes(data))

        def xTruncate(self, size: int) -> None:  # noqa: N802
            if self._happens("truncate"):
                self._file.truncate(size)

        def xSync(self, flags: int) -> None:  # noqa: N802
            if self._happens("sync"):
                self._file.sync()

        def _happens(self, kind: str) -> bool:
            return happens(kind, self._name)

        def excepthook(self, *what: object) -> None:
            """SQLite has been told; nobody else need be."""

        def xFileSize(self) -> int:  # noqa: N802
            return len(self._file.seen)

        def xLock(self, level: int) -> None:  # noqa: N802
            pass

        def xUnlock(self, level: int) -> None:  # noqa: N802
            pass

        def xCheckReservedLock(self) -> bool:  # noqa: N802
            return False

        def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
            return False

        def xSectorSize(self) -> int:  # noqa: N802
            return SECTOR

        def xDeviceCharacteristics(self) -> int:  # noqa: N802
            return _POWERSAFE_OVERWRITE

        def xClose(self) -> None:  # noqa: N802
            pass

    class Vfs(apsw.VFS):
        def __init__(self) -> None:
            super().__init__(_VFS, "")

        def xOpen(self, name: Any, flags: list[int]) -> Open:  # noqa: N802
            flags[1] = flags[0]
            if name is None:
                return Open("temporary", File())
            name = name if isinstance(name, str) else name.filename()
            return Open(name, disk.files.setdefault(name, File()))

        def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802
            return name in disk.files

        def xFullPathname(self, name: str) -> str:  # noqa: N802
            return name

        def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802
            if happens("delete", name):
                disk.files.pop(name, None)

        def excepthook(self, *what: object) -> None:
            """As above."""

    vfs = Vfs()

    def connect(path: Path) -> Connection:
        inner = apsw.Connection(str(path), vfs=_VFS)

        def committed(connection: Any, name: str, pages: int) -> int:
            # As SQLite's own hook does, which passes over errors. Through apsw's they would show.
            if pages >= checkpoint_pages:
                with suppress(apsw.Error):
                    connection.wal_checkpoint(name)
            return 0

        inner.set_wal_hook(committed)
        return _Connection(inner, apsw.Error)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mark, "os", _MarkCalls(disk))
            yield connect
    finally:
        vfs.unregister()


class _Connection:
    """apsw's, as the store knows a connection: with the standard library's exceptions."""

    def __init__(self, inner: Any, error: type[Exception]) -> None:
        self._inner = inner
        self._error = error

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> _Cursor:
        if sql.startswith("PRAGMA wal_autocheckpoint"):
            sql = "SELECT 1"  # it would take the hook's place
        try:
            rows = self._inner.execute(sql, tuple(parameters) or None).fetchall()
            return _Cursor(rows, self._inner.changes())
        except self._error as error:
            raise _as_sqlite3(error) from error

    def close(self) -> None:
        with suppress(self._error):  # the standard library's does not say it either
            self._inner.close()


class _Cursor:
    """With all rows at once: the standard library's steps ahead too, and meets what a statement
    does after its last row."""

    def __init__(self, rows: list[tuple[Any, ...]], changes: int) -> None:
        self._rows = rows
        self.rowcount = changes

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows, []
        return rows


def _as_sqlite3(error: Any) -> sqlite3.Error:
    code = error.extendedresult & 0xFF
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    kind = sqlite3.DatabaseError if damaged else sqlite3.OperationalError
    made = kind(str(error))
    made.sqlite_errorcode = error.extendedresult
    return made
