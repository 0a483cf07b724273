"""A roster file: JSON, private, replaced as a whole, changed by one program at a time."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The entries by name; none if the file does not exist yet.

    Raises ConfigError for a file that cannot be understood.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise damaged(path, f"cannot be read ({error})") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise damaged(path, f"not a roster of version {VERSION}")
    entries = content.get("entries")
    if not isinstance(entries, dict) or not all(isinstance(one, dict) for one in entries.values()):
        raise damaged(path, "its entries are missing")
    return entries


def damaged(path: Path, what: str) -> ConfigError:
    """What to raise for a roster that cannot be used."""
    return ConfigError([f"{path}: {what}; restore it from a backup"])


@contextmanager
def change(path: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """The entries, to be changed in place; written when the block ends without an error.

    Two programs that change the same roster wait for each other. The new file is on disk before
    it takes the old one's name: a power cut leaves one or the other.

    Raises ConfigError, also if the file cannot be written.
    """
    try:
        held = os.open(path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        entries = read(path)
        yield entries
        try:
            _replace(path, entries)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        os.close(held)


def _replace(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    temporary = path.with_suffix(".new")
    with open(temporary, "w", opener=_private) as file:
        json.dump({"version": VERSION, "entries": entries}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file does; None while there is none. Raises ConfigError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(path, f"cannot be read ({error})") from None
    return status.st_mtime_ns, status.st_ino


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError([f"{path}: cannot be written ({error.strerror}); nothing has changed"])
