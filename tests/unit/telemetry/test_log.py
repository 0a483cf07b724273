"""The log: logfmt, one line an event, never a flood."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gateway.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORGED = "2026-11-21T05:00:00.000Z level=critical room=gateway msg=forged"
LINE = re.compile(
    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=\w+ room=[\w.]+ msg="[^"]*"( left_out=\d+)?'
)


class Clock:
    """In place of the operating system's."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Callable[[], list[str]]]:
    """What has been written since the last call, by the process's own configuration of its log."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure()

    def written() -> list[str]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        assert not text or text.endswith("\n")
        return text[:-1].split("\n") if text else []

    yield written
    root.handlers[:], root.level = before
    for name in ("aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_an_event_is_a_line(lines: Callable[[], list[str]]) -> None:
    logging.getLogger("ingress").warning("association of %s closed: %s", "bed-1", "idle")
    (line,) = lines()
    assert LINE.fullmatch(line)
    assert line.endswith('level=warning room=ingress msg="association of bed-1 closed: idle"')


def test_one_of_several_processes_says_which_it_is(
    lines: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(worker=2)
    logging.getLogger("ingress").warning("something")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('level=warning worker=2 room=ingress msg="something"')


def test_the_time_is_utc_with_milliseconds(lines: Callable[[], list[str]]) -> None:
    record = logging.makeLogRecord(
        {
            "name": "a",
            "levelname": "INFO",
            "levelno": 20,
            "msg": "m",
            "created": 1_800_000_000.25,
            "msecs": 250.0,
        }
    )
    logging.getLogger().handle(record)
    assert lines() == ['2027-01-15T08:00:00.250Z level=info room=a msg="m"']


def test_one_kind_of_event_is_written_once_a_second(
    lines: Callable[[], list[str]], clock: Clock
) -> None:
    """Whatever its values; the next line of its kind says how many were left out."""
    room = logging.getLogger("ingress")
    for number in range(1000):
        room.warning("refused %s", number)
    assert [line.partition("msg=")[2] for line in lines()] == ['"refused 0"']
    clock.now += 0.999
    room.warning("refused %s", "still")
    assert lines() == []
    clock.now += 0.001
    room.warning("refused %s", "later")
    (line,) = lines()
    assert line.endswith('msg="refused later" left_out=1000')
    clock.now += 1
    room.warning("refused %s", "again")
    (line,) = lines()
    assert line.endswith('msg="refused again"')


def test_the_tail_of_a_flood_is_told(lines: Callable[[], list[str]], clock: Clock) -> None:
    """Once it is over; a flood that goes on tells it with its next line."""
    room = logging.getLogger("ingress")
    for number in range(1000):
        room.warning("refused %s", number)
    room.info("alone")
    lines()
    clock.now += 2
    log.tell_left_out()
    assert lines() == []
    clock.now += 0.1
    log.tell_left_out()
    (line,) = lines()
    assert LINE.fullmatch(line)
    assert line.endswith(
        'level=warning room=ingress msg="and more like this: refused %s" left_out=999'
    )
    clock.now += 10
    log.tell_left_out()
    assert lines() == []
    room.warning("refused %s", "again")
    assert len(lines()) == 1


def test_another_kind_is_not_held_back(lines: Callable[[], list[str]]) -> None:
    room = logging.getLogger("dtls")
    for _ in range(10):
        room.warning("one %s", 1)
        room.warning("two %s", 1)
    assert len(lines()) == 2


def test_the_kinds_that_are_remembered_are_bounded(lines: Callable[[], list[str]]) -> None:
    """A text with its values inside is a kind of its own: many of them forget older ones."""
    room = logging.getLogger("library")
    for number in range(1024):
        room.warning(f"text {number}")
    assert len(lines()) == 1024
    room.warning("text 0")
    assert lines() == []
    room.warning("one more")
    room.warning("text 0")
    assert len(lines()) == 2


def test_what_is_no_text_is_written_too(lines: Callable[[], list[str]]) -> None:
    logging.getLogger("library").warning(["a", "list"])
    (line,) = lines()
    assert line.endswith("msg=\"['a', 'list']\"")


@pytest.mark.parametrize(
    "text",
    [
        f"x\n{FORGED}",
        f"x\r{FORGED}",
        f"x\r\n{FORGED}",
        f"x\x85{FORGED}",
        f"x\u2028{FORGED}",
        "x\x1b[2J\x1b[H",
        "x\x9b2J",
        'x" level="critical',
        "x\u202egnortsever",
        "x\0",
    ],
)
def test_words_of_a_peer_cannot_make_a_line_or_move_the_cursor(
    lines: Callable[[], list[str]], text: str
) -> None:
    logging.getLogger("ingress").warning("a device said %s", text)
    (line,) = lines()
    assert LINE.fullmatch(line)
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_a_traceback_is_indented_below_its_line(lines: Callable[[], list[str]]) -> None:
    """So that nothing in it can be taken for a line of the log."""
    try:
        raise ValueError(f"planted\n{FORGED}\x1b[2J")
    except ValueError:
        logging.getLogger("ingress").exception("a bug")
    first, *rest = lines()
    assert LINE.fullmatch(first)
    assert any("ValueError: planted" in line for line in rest)
    for line in rest:
        assert line.startswith("  ")
        assert line.isprintable()


def test_lines_of_every_request_are_left_out(lines: Callable[[], list[str]]) -> None:
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("ingress").debug("a detail")
    logging.getLogger("ingress").info("worth a line")
    (line,) = lines()
    assert "worth a line" in line


def test_the_level_can_be_chosen(
    lines: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(logging.ERROR)
    logging.getLogger("ingress").warning("not now")
    logging.getLogger("ingress").error("now")
    (line,) = capsys.readouterr().err.splitlines()
    assert "level=error" in line
    assert lines() == []  # the earlier configuration is replaced


def test_the_journal_is_told_how_grave_each_line_is(tmp_path: Path) -> None:
    """As a service: standard error is the stream that the environment names, by device and inode.
    Anywhere else nothing stands before a line."""
    program = (
        "import logging; from gateway.telemetry import log; log.configure();"
        "logging.getLogger('a').error('one');\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('a').critical('two', exc_info=True)"
    )
    written = tmp_path / "journal"
    for ours, marks in ((True, r"<[23]>"), (False, r"(?!<)")):
        with written.open("wb") as file:
            at = os.fstat(file.fileno())
            stream = f"{at.st_dev}:{at.st_ino if ours else at.st_ino + 1}"
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "JOURNAL_STREAM": stream},
                stderr=file,
                check=True,
            )
        said = written.read_text().splitlines()
        assert len(said) > 3
        assert all(re.match(marks, line) for line in said), said
