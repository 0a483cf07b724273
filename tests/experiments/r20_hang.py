"""Something in the gateway hangs: it is not ready, and the watchdog has it started again.

The service manager is played (:mod:`tests.experiments.rigs.manager`). In a long run times are the
real ones, ``WatchdogSec=10``; in a short one they are a fifth, or half.
"""

from __future__ import annotations

import http.client
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from tests.acceptance.ward import WITHIN_S, a_ward
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.ward import Ward

_WATCHDOG_S = 10.0
_SCALE, _LIVING_SCALE = 5.0, 2.0
"""What comes back in time needs room on a busy host."""
_NOT_READY_WITHIN_S = 2.0
_NOTICED_WITHIN_S = {False: 20.0, True: 3.0}
"""On a busy host; with a planted fault it is never noticed."""


class _Case(NamedTuple):
    name: str
    blocked_s: float | None
    """The event loop, None for the disk under the writer, for good."""

    @property
    def ends(self) -> bool:
        """Whether the watchdog has to bite."""
        return self.blocked_s is None or self.blocked_s > _WATCHDOG_S


_CASES = (
    _Case("writer hung", None),
    _Case("loop blocked 60 s", 60.0),
    _Case("loop blocked 5 s", 5.0),
    _Case("loop blocked 15 s", 15.0),
)


_making = Lock()
"""A configuration is written from what its module's source says, and Python 3.11 reads the source
of one module at a time."""


def _run(run: Run) -> Found:
    cases = _CASES[: run.runs]
    with ThreadPoolExecutor(len(cases)) as side_by_side:
        found = list(side_by_side.map(partial(_alone, run), cases))
    run.progress(len(cases))
    slowest = max(noticed for _, noticed in found)
    return Found([one for failures, _ in found for one in failures], {"not ready after s": slowest})


def _alone(run: Run, case: _Case) -> tuple[list[str], float]:
    """A case in a ward of its own: what failed, and after how many seconds it was not ready."""
    failures: list[str] = []
    noticed: list[float] = []
    scale = 1.0 if run.long else _SCALE if case.ends else _LIVING_SCALE
    folder = run.folder / str(_CASES.index(case))
    folder.mkdir()
    with a_ward(folder) as ward:
        with _making:
            ward.make()
        ward.planted = "hanging"
        ward.environment["HANGING_FAULT"] = run.fault or ""
        manager = Manager(ward, folder, _WATCHDOG_S / scale)
        try:
            _carry_out(run, case, ward, manager, scale, failures, noticed)
        finally:
            manager.close()
    return failures, round(max(noticed, default=0.0), 2)


def _carry_out(
    run: Run,
    case: _Case,
    ward: Ward,
    manager: Manager,
    scale: float,
    failures: list[str],
    noticed: list[float],
) -> None:
    blocked = (case.blocked_s or 0.0) / scale
    ward.environment["HANGING_S"] = str(blocked)
    manager.start()
    _until(lambda: _ready(ward), manager)
    assert ward.gateway is not None
    began = time.monotonic()
    if case.blocked_s is None:
        ward.gateway.send_signal(signal.SIGUSR2)
    else:
        ward.gateway.send_signal(signal.SIGUSR1)
    # A blocked loop cannot answer at all; one that turns says that it is not ready.
    said = http.client.SERVICE_UNAVAILABLE if case.blocked_s is None else None
    within_s = blocked or _NOTICED_WITHIN_S[run.fault is not None]
    if not _until(lambda: _answer(ward, 1 / scale) == said, manager, within_s=within_s):
        failures.append(f"{case.name}: it went on to be ready")
        return
    noticed.append(time.monotonic() - began)
    if run.long and noticed[-1] > _NOT_READY_WITHIN_S:
        failures.append(f"{case.name}: not ready after {noticed[-1]:.1f} s")
    bitten = manager.watch(1.5 * manager.watchdog_s if case.ends else blocked)
    if bitten != case.ends:
        failures.append(f"{case.name}: {'restarted' if bitten else 'not restarted'}")
        return
    if bitten:
        if "Fatal Python error: Aborted" not in ward.log("gateway"):
            failures.append(f"{case.name}: the log does not say where it hung")
    else:
        if not _until(lambda: _ready(ward), manager):
            failures.append(f"{case.name}: not ready again")
        ward.stop_gateway()


def _answer(ward: Ward, within_s: float) -> int | None:
    """The status of ``/readyz``; None: no answer in time."""
    asked = http.client.HTTPConnection("127.0.0.1", ward.port_base + 2, timeout=within_s)
    try:
        asked.request("GET", "/readyz")
        return asked.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asked.close()


def _ready(ward: Ward) -> bool:
    return _answer(ward, 1.0) == http.client.OK


def _until(holds: Callable[[], bool], manager: Manager, *, within_s: float = WITHIN_S) -> bool:
    """Whether it came to hold; the manager goes on listening."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        manager.listen(0.02)
    return True


register(
    Experiment(
        id="R-20",
        name="hang",
        target="event loop blocked 5, 15, 60 s or writer hung: not ready within 2 s; watchdog of "
        "10 s ends what does not come back, and nothing else; its ping is a round trip through the "
        "writer",
        unit="hangs",
        short=len(_CASES),
        long=len(_CASES),
        run=_run,
        faults={
            "timer": "the watchdog is fed by a timer in the event loop",
            "alive": "ready as long as the event loop turns",
        },
        fault_runs=1,
    )
)
