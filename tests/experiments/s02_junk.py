"""Rubbish from forged addresses: dropped, unanswered, and not worth a line each."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.server import Server
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import addresses, flood, is_well, log_lines, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.s01_hello_flood import hellos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from gateway.dtls.association import Association, Path
    from tests.experiments.rigs.hostile import Faults

_MEMORY_KIB: Final = 1024
_WARM: Final = 1000
_LONGEST: Final = 1500
_LINES_A_MINUTE: Final = 20


def _junk(chance: random.Random, count: int) -> Iterator[tuple[bytes, str]]:
    """Random bytes, and hellos with some bytes altered, cut short or made longer."""
    sources = addresses(chance, max(count // 10, min(count, 10_000)))
    chosen = hellos(chance)
    for n in range(count):
        if n % 2:
            datagram = chance.randbytes(chance.randrange(_LONGEST + 1))
        else:
            altered = bytearray(chosen[n // 2 % 2])
            for _ in range(chance.randrange(1, 4)):
                altered[chance.randrange(len(altered))] = chance.randrange(256)
            end = chance.randrange(len(altered)) if n % 4 else len(altered)
            datagram = bytes(altered[:end]) + chance.randbytes(chance.choice((0, 0, 50)))
        yield datagram, sources[n % len(sources)]


def _run(run: Run) -> Found:
    failures = []
    with attacked(run, _FAULTS) as target, spoofer(target.address) as attacker:
        honest = target.peer()
        if run.fault is None:
            warm = max(_WARM, run.runs // 10)
            flood(target, attacker, _junk(random.Random(run.seed + 1), warm))
        before = target.memory_kib()
        with log_lines(target) as logged:
            tally = flood(target, attacker, _junk(random.Random(run.seed), run.runs))
            lines = len(logged())
        grown = target.memory_kib() - before
        run.progress(run.runs)
        if tally.unaccounted():
            failures.append(f"{tally.unaccounted()} datagrams neither handled nor dropped")
        failures += [
            f"{name}: {tally.after[name]}, {tally.before[name]} before"
            for name in ("associations", "half_open")
            if tally.after[name] > tally.before[name]
        ]
        if tally.bytes_answered > tally.bytes_sent:
            failures.append(f"{tally.bytes_answered} bytes answered to {tally.bytes_sent}")
        if lines > _LINES_A_MINUTE * (1 + tally.seconds // 60):
            failures.append(f"{lines} lines of log in {tally.seconds:.0f} s")
        if grown > _MEMORY_KIB:
            failures.append(f"{grown} KiB more memory")
        if tally.more("messages", "bug"):
            failures.append(f"{tally.more('messages', 'bug')} datagrams raised")
        if not (is_well(honest) and is_well(target.peer())):
            failures.append("an honest node is not served after the flood")
    figures = {
        "datagrams/s": round((tally.sent - tally.lost) / tally.seconds),
        "answered": tally.answered,
        "lost": tally.lost,
        "lines": lines,
        "KiB more": grown,
    }
    return Found(failures, figures)


def _a_line_each() -> AbstractContextManager[object]:
    understand = Server._receive_other_untrusted

    def careless(
        self: Server, association: Association | None, datagram: bytes, path: Path, now: float
    ) -> object:
        try:
            return understand(self, association, datagram, path, now)
        except Exception as error:
            logging.getLogger("ingress").warning(f"{path.address}: {error}")
            raise

    return patch.object(Server, "_receive_other_untrusted", careless)


_FAULTS: Faults = {"a-line-each": ("each drop is logged with its address", _a_line_each)}

register(
    Experiment(
        id="S-02",
        name="junk",
        target=f"no state, at most 1 MiB more memory, no more bytes out than in, at most "
        f"{_LINES_A_MINUTE} lines of log a minute",
        unit="datagrams",
        short=10_000,
        long=1_000_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=100,
    )
)
