"""R-10: whatever the cloud store answers, nothing is lost, and it is not hammered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gateway import provision
from gateway.delivery import pump
from gateway.delivery.lanes import PROFILES
from gateway.errors import PermanentDeliveryError
from gateway.lane import Lane
from gateway.sinks import cloud, transport
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.cloud_faults import TABLE, Case, Fate, without_name
from tests.experiments.rigs.cloud_stub import Stub, make_certificate
from tests.experiments.rigs.line import Line, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.delivery.lanes import Profile

_ROWS = 12
"""Records of a lane in each case."""
_TIMES = 2
"""How often each fault is met in a row, but for one that asks for a pause."""
_TIMEOUT_S = 0.5
_PATIENT_S = 30.0
"""In a brief run: of requests that are to end by it, and of all others, however busy the host."""
_SPEED = 4
"""In a brief run waits are so many times shorter."""
_TAKEN = 4 << 20
"""Of an endless answer, what kernels may have taken on the way to who stopped reading."""
_SLACK_S = 0.002
_LATE_S = 1.0
_CAP_S = {Lane.EMERGENCY: 1.5, Lane.ROUTINE: 3600.0}
"""The longest pause that a store can ask a lane for."""


def _run(run: Run) -> Found:
    return asyncio.run(_rounds(run))


async def _rounds(run: Run) -> Found:
    ward = run.folder / "ward"
    provision.make_ward(ward, ward="W1", cloud_url=None, port_base=None, wall=time.time())
    make_certificate(ward, "expired", host="127.0.0.1", wall=time.time() - 3 * 365 * 86_400)
    make_certificate(ward, "elsewhere", host="elsewhere.example", wall=time.time())
    nameless: set[int] = set()
    enough = asyncio.Event()
    """A planted fault was found: nobody waits for the rest, which it may keep waiting."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(without_name(lambda: nameless))
        for owner, name, planted in _planted(run.fault):
            stack.enter_context(patch.object(owner, name, planted))
        for number in range(run.runs):
            cases = [
                asyncio.create_task(_Trial(run, number, name, nameless, enough, counts).carry_out())
                for name in TABLE
            ]
            for case in asyncio.as_completed(cases):
                failures += await case
                if failures and run.fault:
                    enough.set()
            run.progress(number + 1)
    return Found(failures, {"cases": len(TABLE) * run.runs, **counts})


class _Trial:
    """One row of the table, with a store and an outbox of its own."""

    def __init__(
        self,
        run: Run,
        number: int,
        name: str,
        nameless: set[int],
        enough: asyncio.Event,
        counts: Counter[str],
    ) -> None:
        self._run = run
        self._case: Case = TABLE[name]
        self._times = _TIMES if self._case.wish_s is None else 1
        self._name = name
        self._nameless = nameless
        self._enough = enough
        self._counts = counts
        self._seed = f"{run.seed} {number} {name}"
        self._outbox = run.folder / f"{number} {name}.db"
        self._failures: list[str] = []

    def _profiles(self) -> dict[Lane, Profile]:
        if self._run.long:
            return PROFILES
        return {
            lane: replace(one, retry=replace(one.retry, base_s=one.retry.base_s / _SPEED))
            for lane, one in PROFILES.items()
        }

    def _timeout_s(self) -> float | None:
        if self._run.long:
            return None
        return _TIMEOUT_S if self._case.hangs else _PATIENT_S

    def _fail(self, words: str) -> None:
        self._failures.append(f"{self._name}: {words}")

    async def carry_out(self) -> list[str]:
        async with Stub(self._run.folder / "ward", host=self._case.host) as stub:
            self._nameless.add(stub.port)
            line = Line(
                self._run.folder / "ward",
                self._outbox,
                stub.url,
                seed=self._seed,
                timeout_s=self._timeout_s(),
                profiles=self._profiles(),
            )
            async with line:
                await self._meet(stub, line)
        return self._failures

    async def _meet(self, stub: Stub, line: Line) -> None:
        case = self._case
        if case.fault is not None:
            for lane in Lane:
                stub.script[lane] = deque([case.fault] * self._times)
        stub.refusal, stub.refusals = case.envelope, self._times
        if case.away is not None:
            await case.away(stub)
        ids = {lane: line.put(_ROWS, lane) for lane in Lane}
        sent = {name for names in ids.values() for name in names}
        poisoned = {names[5] for names in ids.values()} if case.poison is not None else set()
        stub.answer = lambda lane, names: case.poison if poisoned & set(names) else None
        if case.away is not None:
            sinks = line.sinks.values()
            await until(lambda: all(len(one.errors) >= self._times for one in sinks))
            await stub.close()
            self._nameless.discard(stub.port)
            await stub.open()
        within_s = 5.0 if self._run.fault else 300.0 if self._run.long else 40.0
        drained = await line.drained(within_s, self._enough.is_set)
        if self._enough.is_set():
            return
        if not drained:
            self._fail(f"records wait for ever ({line.broken() or 'no word'})")
        self._judge_records(stub, line, sent, await line.dead(), poisoned)
        for lane in Lane:
            self._judge_tries(stub, line, lane)
        if stub.given > 2 * _TIMES * _TAKEN:
            self._fail(f"{stub.given} bytes of an endless answer were taken")
        if stub.wrong:
            self._fail(stub.wrong[0])
        self._counts["records"] += len(sent)
        self._counts["stored twice"] += sum(stub.arrivals.values()) - len(stub.arrivals)

    def _judge_records(
        self, stub: Stub, line: Line, sent: set[bytes], dead: dict[bytes, str], poisoned: set[bytes]
    ) -> None:
        if lost := sent - stub.stored - dead.keys():
            self._fail(f"{len(lost)} of {len(sent)} records are lost")
        if stub.stored - sent:
            self._fail("records that nobody sent")
        if self._case.fate is not Fate.QUARANTINED:
            if dead:
                self._fail(f"{len(dead)} records were given up: {next(iter(dead.values()))}")
        elif poisoned and dead.keys() != poisoned:
            self._fail(f"{len(dead)} records were given up, not the {len(poisoned)} at fault")
        elif not dead or not all("malformed record" in reason for reason in dead.values()):
            self._fail(f"quarantined without the store's words: {list(dead.values())}")
        # On a busy host a good answer may come too late for a request that is to end early.
        late = max(len(one.errors) for one in line.sinks.values()) if self._case.hangs else 0
        for name, times in stub.arrivals.items():
            if times > 1 + max(stub.unanswered[name], late):
                self._fail(f"a record was stored {times} times")
                break

    def _judge_tries(self, stub: Stub, line: Line, lane: Lane) -> None:
        fate, sink = self._case.fate, line.sinks[lane]
        errors = [error for error in sink.errors if error is not None]
        self._counts["failed requests"] += len(errors)
        if fate in (Fate.HALVED, Fate.QUARANTINED):
            # Found by halving: at most two batches a halving, and the record alone.
            if stub.batches[lane] > 2 * _ROWS.bit_length() + self._times:
                self._fail(f"{stub.batches[lane]} batches to find one record of {_ROWS}")
            return
        if any(isinstance(error, PermanentDeliveryError) for error in errors):
            self._fail(f"taken for the records' fault: {errors[0]}")
        # What follows may have met the stub while it was being mended.
        halted = [error.kind == "not_welcome" for error in errors[: self._times]]
        if fate is Fate.HALTED and not all(halted):
            self._fail(f"nobody is told: {errors[halted.index(False)]}")
        if fate is Fate.RETRIED and any(halted):
            self._fail(f"a person is called in vain: {errors[halted.index(True)]}")
        if fate is Fate.DELIVERED:
            return
        exactly = self._case.away is None and not self._case.hangs
        if len(errors) < self._times or (exactly and len(errors) > self._times):
            self._fail(f"{len(errors)} failures, not the {self._times} that were met")
        if len(line.shares[lane]) < len(errors):
            self._fail("a wait was not drawn")
        policy = self._profiles()[lane].retry
        for number, one in enumerate(line.failed(lane)):
            wait = one.share * min(policy.base_s * 2**number, policy.cap_s)
            if self._case.wish_s is not None:
                wait = min(self._case.wish_s, _CAP_S[lane])
                over = _LATE_S
            else:
                over = _LATE_S if self._run.long else 1e9
            waited = one.next_began - one.ended
            if waited < wait - _SLACK_S:
                self._fail(f"{lane}: tried again after {waited:.3f} s, not {wait:.3f}")
            if self._run.long and waited > wait + over:
                self._fail(f"{lane}: tried again after {waited:.3f} s only, not {wait:.3f}")


# --- faults


def _planted(fault: str | None) -> Iterator[tuple[object, str, object]]:
    if fault == "refused-is-deleted":
        yield pump.Pump, "_after_failure", _delete_what_is_refused
    elif fault == "no-back-off":
        yield pump, "wait_s", lambda *_, **__: 0.0
    elif fault == "no-limit":
        yield transport, "ANSWER_LIMIT", 1 << 40
    elif fault == "any-2xx":
        yield cloud, "json_untrusted", lambda body: {"stored": [], "known": [], "refused": []}
        yield cloud, "_UNMENTIONED", cloud._DELIVERED


_after_failure = pump.Pump._after_failure


async def _delete_what_is_refused(self: Any, error: Any) -> None:
    if isinstance(error, PermanentDeliveryError):
        batch = self._work.popleft()
        self._writer.settle(self._lane, done=[leased.number for leased in batch])
    else:
        await _after_failure(self, error)


register(
    Experiment(
        id="R-10",
        name="cloud-faults",
        target="of everything a cloud store can answer nothing is lost; each fault is retried, "
        "halted, halved or quarantined as the table says; at most one duplicate per commit that "
        "was not answered, under the same id; one try a wait, full jitter, Retry-After kept to a "
        "second (emergencies: 2 s at most); 64 KiB of an answer read",
        unit="rounds of the table",
        short=1,
        long=10,
        run=_run,
        faults={
            "refused-is-deleted": "a batch that is refused (400) is settled as if it were done",
            "no-back-off": "tries follow one another without a wait",
            "no-limit": "answers are read to their end",
            "any-2xx": "every 2xx counts as stored, whatever its body",
        },
        fault_runs=1,
    )
)
