"""How things are measured: servers take turns, a load is a process, figures are medians."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from packs import MOST
from servers import KEY, Missing, Running, starter

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Row = dict[str, Any]
"""What one round against one server has given."""


WARM_UP = -1
"""The number of the round that does not count."""


QUICK_EACH = 20
"""Requests of an association in a quick round, which ends when they are sent."""
QUICK_S = 60.0
"""A quick round is not ended by the clock."""


class Failed(Exception):
    """A server could not be measured."""


class Options(NamedTuple):
    """What the command was asked for."""

    rounds: int
    quick: bool
    """A run of seconds, to see that it works: its figures mean nothing."""
    folder: Path
    """Where plots go."""


class Generator:
    """A process of its own that loads one server. ``with``: it is ready when the block begins.

    program: a module of this folder that writes ``ready``, waits for a line, works, writes ``end``
    and then its figures, with ``done``: what the server has done within the window.
    """

    def __init__(self, server: Running, program: str, arguments: Row) -> None:
        self._server = server
        self._program = Path(__file__).with_name(program)
        self._arguments = arguments

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(self._program), json.dumps(self._arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready", "connect")
        return self

    def __exit__(self, *_: object) -> None:
        # The end of its standard input is a line too: it says goodbye and ends.
        self._process.communicate()

    def start(self) -> None:
        """Begin the window; returns at once."""
        self._cpu = self._server.cpu()
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def watch(self, every: float) -> Iterator[None]:
        """Between ``start`` and ``finish``: once each ``every`` seconds until the window ends."""
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], every)[0]:
            yield

    def finish(self) -> Row:
        """Wait for the end of the window, and of what is under way then.

        The program's figures, with user_us, system_us and cpu_us of the server for each that was
        done, and server_busy (CPU seconds a second). Raises Failed.
        """
        self._expect("end", "work")
        after = self._server.cpu()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the load generator has ended early")
        row: Row = json.loads(line)
        if not row["done"]:
            raise Failed(f"it has done nothing of what was asked: {row}")
        user, system = (b - a for a, b in zip(self._cpu, after, strict=True))
        each = 1e6 / row["done"]
        return row | {
            "user_us": user * each,
            "system_us": system * each,
            "cpu_us": (user + system) * each,
            "server_busy": (user + system) / row["seconds"],
        }

    def run(self) -> Row:
        """:meth:`start` and :meth:`finish`."""
        self.start()
        return self.finish()

    def _expect(self, word: str, what: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != word:
            raise Failed(f"the load generator could not {what}")


class Load(Generator):
    """Requests (load.py). Ready: connected, and every request is protected.

    associations: devices ``bench-<first>`` and on, with ``in_flight`` requests each (closed load),
    but not above ``total``: with less than one for each, they take turns. Or, with ``rate``, so
    many requests a second over all of them, whatever is answered (open load).
    expected: requests a second that it may come to; so many are prepared. Or each: requests of an
    association; the window then ends when they are sent.
    boot: a number that this server has not had yet.

    Its figures: seconds; sent; acknowledged (2.04 or 2.01), done (of these, in the window); refused
    by code; resent; unanswered; rate (done a second); generator_busy (CPU seconds a second);
    latency_ms {p50, p99, max}; request_bytes; associations and in_flight as they were.
    """

    def __init__(
        self,
        server: Running,
        *,
        associations: int,
        seconds: float,
        boot: int,
        in_flight: int = 8,
        total: int | None = None,
        rate: float | None = None,
        expected: float = 150_000.0,
        each: int | None = None,
        first: int = 0,
    ) -> None:
        most = min(total or in_flight * associations, server.in_flight or in_flight * associations)
        in_flight = max(1, min(in_flight, most // associations))
        to_the_end = each is not None
        if each is None:
            each = int((rate or expected) * seconds / associations * 1.05) + 2 * in_flight
        arguments = {
            "port": server.port,
            "dtls": server.dtls,
            "key": KEY,
            "method": server.method,
            "path": server.path,
            "careful": server.separate,
            "associations": associations,
            "first": first,
            "in_flight": in_flight,
            "in_turns": most if most < associations and rate is None else None,
            "rate": rate,
            "to_the_end": to_the_end,
            "seconds": seconds,
            "each": min(each, MOST),
            "boot": boot,
        }
        super().__init__(server, "load.py", arguments)


def open_all(
    stack: contextlib.ExitStack, modules: Sequence[str]
) -> tuple[list[Running], dict[str, str]]:
    """Start these servers (modules of ``servers``); those that run, and why others do not."""
    running: list[Running] = []
    skipped: dict[str, str] = {}
    for module in modules:
        try:
            running.append(stack.enter_context(starter(module)()))
        except Missing as why:
            skipped[module] = str(why)
            progress(f"{module} is skipped: {why}")
    return running, skipped


def rounds(
    servers: Sequence[Running],
    each: Callable[[Running, int], Row],
    count: int,
    skipped: dict[str, str],
    *,
    warm_up: bool = True,
) -> dict[str, list[Row]]:
    """Take turns (A B A B), so that a slow minute of the machine meets all alike.

    each: one round against a server; its second argument is the round's number, first WARM_UP and
    then from 0. A peer that fails is out, and ``skipped`` says why; the first server must not
    (SystemExit).
    """
    rows: dict[str, list[Row]] = {server.name: [] for server in servers}
    for number in range(WARM_UP if warm_up else 0, count):
        for server in servers:
            if server.name not in rows:
                continue
            try:
                row = each(server, number)
            except Failed as why:
                if server is servers[0]:
                    raise SystemExit(f"{server.name}: {why}") from None
                del rows[server.name]
                skipped[server.name] = f"failed: {why}"
                progress(f"{server.name} {skipped[server.name]}")
                continue
            if number == WARM_UP:
                continue
            rows[server.name].append(row)
            if "rate" in row:
                progress(f"round {number + 1} of {count}, {server.name}: {row['rate']:,.0f}/s")
    return rows


def progress(words: str) -> None:
    """For who waits: standard error."""
    print(words, file=sys.stderr, flush=True)


def figures(rows: Sequence[Row], keys: Iterable[str]) -> dict[str, dict[str, float]]:
    """``{key: {median, min, max}}`` over the rounds."""
    made = {}
    for key in keys:
        values = [row[key] for row in rows]
        made[key] = {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
    return made


def spread(figure: Mapping[str, float], digits: int = 0) -> str:
    """``median (min-max)``, of more than one round."""
    low, middle, high = (f"{figure[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low}-{high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned: the first column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def tell_skipped(skipped: Mapping[str, str]) -> None:
    """Name the peers that are not here."""
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}")
