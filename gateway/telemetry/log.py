"""Logs: logfmt on standard error, never a payload, a key or a patient.

A flood of one kind of event must not become a flood of lines: each message text (not its values)
is written at most once a second, and the next line of that kind says how many were left out.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

_QUIET_S: Final = 1.0
_KINDS: Final = 1024

_EACH: Final = frozenset({"alarms"})
"""Rooms whose lines count as one kind only when they say the same: an alarm of another device is
another event. Triage bounds them: a patient has few conditions, with hysteresis."""


class _OncePerSecond(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        kind = record.getMessage() if record.name in _EACH else str(record.msg)
        last, left_out = self._seen.get(kind, (float("-inf"), 0))
        if now - last < _QUIET_S:
            self._seen[kind] = (last, left_out + 1)
            return False
        if len(self._seen) >= _KINDS:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        record.left_out = left_out
        return True


class _Logfmt(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"worker={worker} "

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
        return line


def _printable(text: str) -> str:
    """Words of a peer must not move the cursor, nor begin a line, on the terminal that shows
    them."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def configure(level: int = logging.INFO, worker: int | None = None) -> None:
    """Send the log of the whole process to standard error. ``worker``: which of several it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Logfmt(worker))
    handler.addFilter(_OncePerSecond())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What no line shows is not looked for either: it was 40% of the cost of a line that is left out
    # ("Logging HOWTO", section Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # One line a request would be a line a record.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
