"""Logs: logfmt on standard error, never a payload, a key or a patient.

A flood of one kind of event must not become a flood of lines: each message text (not its values)
is written at most once a second, and the next line of that kind says how many were left out. When
none comes, :func:`tell_left_out` says it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Final, NamedTuple, TextIO

_QUIET_S: Final = 1.0
_KINDS: Final = 1024

_EACH: Final = frozenset({"alarms", "dtls", "letters"})
"""Rooms whose lines count as one kind only when they say the same: an alarm of another device is
another event, and so is a refusal for another reason, or another deed of a person. They are bounded
elsewhere: a patient has few conditions, with hysteresis, a reason is told once a minute
(ingress/refusals.py), and people type slowly."""


_INFO: Final = 6
_PRIORITIES: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.DEBUG: 7}
"""What the journal calls them: a prefix of each line, ``sd-daemon(3)``."""


class _Kind(NamedTuple):
    written: float
    """Monotonic seconds of its last line."""
    left_out: int
    level: int
    room: str


class _OncePerSecond(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        kind = record.getMessage() if record.name in _EACH else str(record.msg)
        last = self._seen.get(kind)
        if last is not None and now - last.written < _QUIET_S:
            self._seen[kind] = last._replace(left_out=last.left_out + 1)
            return False
        if len(self._seen) >= _KINDS:
            self._seen.clear()
        self._seen[kind] = _Kind(now, 0, record.levelno, record.name)
        record.left_out = 0 if last is None else last.left_out
        return True

    def take_left_out(self) -> list[logging.LogRecord]:
        """A line for each kind of which more came after its last line, and nothing since."""
        before = time.monotonic() - 2 * _QUIET_S
        lines = []
        for kind, one in list(self._seen.items()):  # other threads log meanwhile
            if one.written < before:
                self._seen.pop(kind, None)
            if one.written < before and one.left_out:
                text = f"and more like this: {kind}"
                line = logging.LogRecord(one.room, one.level, "", 0, text, (), None)
                line.left_out = one.left_out
                lines.append(line)
        return lines


class _Logfmt(logging.Formatter):
    def __init__(self, worker: int | None, *, journal: bool) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"worker={worker} "
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = _printable(record.getMessage().replace('"', "'").replace("\n", " | "))
        line = (
            f"{when}.{int(record.msecs):03d}Z level={record.levelname.lower()} "
            f'{self._worker}room={record.name} msg="{text}"'
        )
        left_out = getattr(record, "left_out", 0)
        if left_out:
            line += f" left_out={left_out}"
        if record.exc_info:
            # Indented, so that no text in an exception can look like a line of its own.
            trace = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n  {_printable(one)}" for one in trace)
        if self._journal:
            mark = f"<{_PRIORITIES.get(record.levelno, _INFO)}>"
            line = mark + line.replace("\n", f"\n{mark}")
        return line


class _Handler(logging.StreamHandler[TextIO]):
    """To standard error, each kind once a second."""

    def __init__(self, worker: int | None) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_Logfmt(worker, journal=_is_journal(sys.stderr)))
        self._kinds = _OncePerSecond()
        self.addFilter(self._kinds)

    def tell_left_out(self) -> None:
        lines = self._kinds.take_left_out()
        self.acquire()
        try:
            for line in lines:
                self.emit(line)
        finally:
            self.release()


def _is_journal(stream: TextIO) -> bool:
    """Whether the service manager says that this stream is the journal's: device and inode."""
    try:
        at = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{at.st_dev}:{at.st_ino}"


def _printable(text: str) -> str:
    """Words of a peer must not move the cursor, nor begin a line, on the terminal that shows
    them."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def configure(level: int = logging.INFO, worker: int | None = None) -> None:
    """Send the log of the whole process to standard error. ``worker``: which of several it is."""
    logging.basicConfig(level=level, handlers=[_Handler(worker)], force=True)
    # What no line shows is not looked for either: it was 40% of the cost of a line that is left out
    # ("Logging HOWTO", section Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # One line a request would be a line a record.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def tell_left_out() -> None:
    """Say how many lines a flood left out that is over. Call once in a while."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.tell_left_out()
