"""Hellos without a cookie from forged addresses: they cost an answer, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import random
import time
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from gateway.dtls.cookie import Cookies
from gateway.dtls.handshake import Handshake
from gateway.dtls.hosts import networks
from gateway.dtls.server import Server, _Pending
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.flood import addresses, flood, is_well, spoofer
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import Puppet, message, record
from tests.integration.peer import Peer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gateway.dtls.association import Path
    from gateway.dtls.cookie import ClientHello
    from tests.experiments.rigs.hostile import Faults, Target

_MEMORY_KIB: Final = 1024
_WARM: Final = 2000
"""Before memory is looked at, or a tenth of the flood if that is more: Python takes memory by the
MiB, and has what the longest bursts need then."""
_RATE: Final = 10_000
_LATENCY_S: Final = 20
_USUAL: Final = 200
"""Bytes of a hello with the extensions that a library sends."""


def hellos(chance: random.Random) -> list[bytes]:
    """The smallest legal one and a usual one."""
    small = Puppet(chance).hello()
    body = Puppet(chance).hello_body()
    padding = _USUAL - len(small) - 6
    extension = (21).to_bytes(2, "big") + padding.to_bytes(2, "big") + bytes(padding)
    usual = message(1, 0, body + len(extension).to_bytes(2, "big") + extension)
    return [small, record(22, 0, usual)]


def _flooded(target: Target, run: Run, count: int, seed: int) -> dict[str, Any]:
    """One flood: what was wrong and what it was like."""
    chance = random.Random(seed)
    sources = addresses(chance, max(count // 10, min(count, 10_000)))
    chosen = hellos(chance)
    datagrams = ((chosen[n % 2], sources[n % len(sources)]) for n in range(count))
    with spoofer(target.address) as attacker:
        tally = flood(target, attacker, datagrams)
    failures = []
    if tally.unaccounted():
        failures.append(f"{tally.unaccounted()} hellos neither handled nor dropped")
    for name in ("associations", "half_open"):
        grown = tally.after[name] - tally.before[name]
        if grown > 0:
            failures.append(f"{grown} more {name.replace('_', ' ')}")
    if tally.bytes_answered > tally.bytes_sent:
        failures.append(f"{tally.bytes_answered} bytes answered to {tally.bytes_sent}")
    challenges = tally.more("dtls", "cookie_challenges")
    if challenges + tally.lost != tally.sent and run.fault is None:
        failures.append(f"{challenges} challenges and {tally.lost} lost of {tally.sent}")
    return {"failures": failures, "tally": tally}


def _honest(address: tuple[str, int], device: str, seconds: float, results: Any) -> None:
    """A node in a process of its own: the times of its exchanges, one after the other."""
    peer = Peer(address, device)
    peer.shake_hands()
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        assert is_well(peer)
        times.append(time.monotonic() - began)
        time.sleep(0.002)
    peer.say_goodbye()
    peer.close()
    results.put(sorted(times))


def _p99(target: Target, *, flooded: bool) -> float:
    """Seconds, of an honest node, with and without 10,000 hellos a second."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    node = context.Process(target=_honest, args=(target.address, "d0", _LATENCY_S, results))
    node.start()
    if flooded:
        chance = random.Random(3)
        sources, chosen = addresses(chance, 100_000), hellos(chance)
        count = int((_LATENCY_S + 2) * _RATE)
        with spoofer(target.address) as attacker:
            datagrams = ((chosen[n % 2], sources[n % len(sources)]) for n in range(count))
            flood(target, attacker, datagrams, per_s=_RATE)
    times = results.get(timeout=60 + _LATENCY_S)
    node.join()
    quantile: float = times[int(len(times) * 0.99)]
    return quantile


def _run(run: Run) -> Found:
    failures = []
    figures: dict[str, object] = {}
    with attacked(run, _FAULTS) as target:
        honest = target.peer()
        _flooded(target, run, max(_WARM, run.runs // 10) if run.fault is None else 1, run.seed + 1)
        before = target.memory_kib()
        found = _flooded(target, run, run.runs, run.seed)
        grown = target.memory_kib() - before
        failures += found["failures"]
        tally = found["tally"]
        run.progress(run.runs)
        if grown > _MEMORY_KIB:
            failures.append(f"{grown} KiB more memory")
        if run.fault is None and not (is_well(honest) and is_well(target.peer())):
            failures.append("an honest node is not served after the flood")
        rate = round((tally.sent - tally.lost) / tally.seconds)
        figures |= {
            "hellos/s": rate,
            "lost": tally.lost,
            "bytes out / in": round(tally.bytes_answered / tally.bytes_sent, 2),
            "KiB more": grown,
        }
        if run.long:
            if rate < _RATE:
                failures.append(f"{rate} hellos a second")
            calm, flooded = _p99(target, flooded=False), _p99(target, flooded=True)
            figures |= {"p99 ms": round(calm * 1e3, 1), "flooded": round(flooded * 1e3, 1)}
            if flooded > 2 * calm:
                failures.append(f"p99 {flooded * 1e3:.1f} ms, {calm * 1e3:.1f} without the flood")
    return Found(failures, figures)


# -- faults


def _before_proof() -> AbstractContextManager[object]:
    understand = Server._hello_untrusted

    def careless(self: Server, datagram: bytes, path: Path, now: float) -> None:
        if path not in self._pending:
            engine = self._engines.engine(1232)
            handshake = Handshake(engine, server=True, number=0, mtu=1232, now=now)
            self._pending[path] = _Pending(handshake, b"", networks(path.address[0]))
        understand(self, datagram, path, now)

    return patch.object(Server, "_hello_untrusted", careless)


def _larger() -> AbstractContextManager[object]:
    challenge = Cookies.challenge

    def careless(self: Cookies, hello: ClientHello, address: bytes, now: float) -> bytes:
        return challenge(self, hello, address, now).ljust(400, b"\0")

    return patch.object(Cookies, "challenge", careless)


_FAULTS: Faults = {
    "state-before-proof": ("every hello opens a handshake", _before_proof),
    "larger-answer": ("the challenge is larger than the hello", _larger),
}

register(
    Experiment(
        id="S-01",
        name="hello-flood",
        target="no state, at most 1 MiB more memory, no more bytes out than in; 10,000/s handled, "
        "p99 of an honest node at most doubled by as many",
        unit="hellos",
        short=10_000,
        long=1_000_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=300,
    )
)
