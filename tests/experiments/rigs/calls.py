"""System calls of a gateway, in the order in which they took effect, as strace tells."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TRACED = "pwrite64,fsync,fdatasync,sendmmsg"
_LINE = re.compile(r"(?P<thread>\d+) +(?P<time>\d+\.\d+) (?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\(\d+<(?P<file>[^>]*)>(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)")
_RESULT = re.compile(r"\)\s+= (?P<result>-?\d+)")
_BYTES = re.compile(r'"(?P<bytes>(?:\\x[0-9a-f]{2})+)"')


class Call(NamedTuple):
    """One that has returned. Calls are in the order of their return."""

    name: str
    file: str
    """Path, or ``socket:[inode]``."""

    data: bytes
    """What it wrote, as far as strace shows it; empty if that is text only."""

    result: int
    began: float
    """Wall seconds."""

    place: int
    """Of its beginning among all lines."""


def missing() -> str | None:
    """For `Experiment.needs`."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run([*under("/dev/null"), "true"], capture_output=True, check=False)
    return "strace may not trace here" if tried.returncode else None


def under(log: Path | str) -> tuple[str, ...]:
    """Words before a command. It stays a child of the caller; strace ends with it."""
    return ("strace", "-D", "-f", "--seccomp-bpf", "-y", "-x", "-ttt", "-s", "32",
            "-e", f"trace={_TRACED}", "-e", "signal=none", "-o", str(log))  # fmt: skip


def whole(log: Path, process: int) -> bool:
    """Whether the end of this process is in it, which is the last that there is."""
    last = log.read_text().rpartition("\n")[0].rpartition("\n")[2]
    return last.split()[:1] == [str(process)] and "+++ exited" in last


def read(log: Path) -> Iterator[Call]:
    """The calls of a process that has ended."""
    begun: dict[str, tuple[str, float, int]] = {}
    for place, line in enumerate(log.read_text().splitlines()):
        parts = _LINE.fullmatch(line)
        if parts is None:
            continue
        thread, text, began, start = parts["thread"], parts["rest"], float(parts["time"]), place
        if text.endswith("<unfinished ...>"):
            begun[thread] = (text.removesuffix("<unfinished ...>"), began, place)
            continue
        resumed = _RESUMED.fullmatch(text)
        if resumed is not None and thread in begun:
            head, began, start = begun.pop(thread)
            text = head + resumed["rest"]
        call, result = _CALL.fullmatch(text), _RESULT.search(text)
        if call is None or result is None:
            continue
        shown = _BYTES.search(call["rest"])
        data = bytes.fromhex(shown["bytes"].replace("\\x", "")) if shown else b""
        yield Call(
            call["name"], call["file"], data, int(result["result"]), began, start
        )  # fmt: skip
