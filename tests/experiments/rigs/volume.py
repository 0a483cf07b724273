"""A file system of its own for a folder: an ext4 image whose power can be cut, or a small tmpfs."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, ``_IOR('X', 125, __u32)`` of <linux/ext4.h>."""
_NO_LOG_FLUSH = struct.pack("I", 2)
_UNMOUNT_S = 30.0


class Volume:
    """Mounted over a folder, which keeps what was in it."""

    def __init__(self, folder: Path, *options: str) -> None:
        """``options``: of mount."""
        self._folder = folder
        self._options = options
        with tempfile.TemporaryDirectory() as aside:
            shutil.copytree(folder, aside, dirs_exist_ok=True)
            self.mount()
            shutil.copytree(aside, folder, dirs_exist_ok=True)
        os.sync()

    def mount(self) -> None:
        """Until it can be read: a mount namespace of somebody else, made meanwhile, may hold the
        cut file system for a moment more, and the kernel gives the same one again."""
        deadline = time.monotonic() + _UNMOUNT_S
        while True:
            _do("mount", *self._options, str(self._folder))
            try:
                for file in self._folder.iterdir():
                    if file.is_file():
                        file.read_bytes()
            except OSError:
                self.unmount()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def unmount(self) -> None:
        """Once nobody uses it any more: the kernel lets go of a killed process's files late."""
        deadline = time.monotonic() + _UNMOUNT_S
        while True:
            try:
                return _do("umount", str(self._folder))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def cut(self) -> None:
        """Nothing reaches the image any more: neither page cache nor journal."""
        at = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.ioctl(at, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(at)


@contextlib.contextmanager
def ext4(folder: Path, image: Path, size: int) -> Iterator[Volume]:
    """``size``: bytes of the new image."""
    with image.open("wb") as file:
        file.truncate(size)
    _do("mkfs.ext4", "-q", "-F", str(image))
    with _mounted(Volume(folder, "-o", "loop", str(image))) as volume:
        yield volume


@contextlib.contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Volume]:
    """``size``: bytes."""
    with _mounted(Volume(folder, "-t", "tmpfs", "-o", f"size={size}", "none")) as volume:
        yield volume


@contextlib.contextmanager
def _mounted(volume: Volume) -> Iterator[Volume]:
    try:
        yield volume
    finally:
        with contextlib.suppress(OSError):  # if the experiment ended between two mounts
            volume.unmount()


@functools.cache
def no_ext4() -> str | None:
    """For `Experiment.needs`: tried, because a container may forbid any part of it."""
    if os.geteuid() != 0:
        return "not root: no loop device can be mounted"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed (Debian: e2fsprogs)"
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder, "at")
        at.mkdir()
        try:
            with ext4(at, Path(folder, "image"), 4 << 20) as volume:
                volume.cut()
        except OSError as error:
            return f"no ext4 image whose power can be cut: {error}"
    return None


@functools.cache
def no_tmpfs() -> str | None:
    """For `Experiment.needs`."""
    if os.geteuid() != 0:
        return "not root: no tmpfs can be mounted"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tmpfs(Path(folder), 1 << 20):
                pass
        except OSError as error:
            return f"no tmpfs can be mounted: {error}"
    return None


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
