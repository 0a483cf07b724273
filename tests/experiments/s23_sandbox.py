"""The unit's restrictions, seen from inside the gateway: it works, and can do nothing else.

systemd itself does not run where tests run; the rig applies what the unit says by the same means of
the kernel. What ``systemd-analyze`` thinks of the unit is in ``tests/integration/test_units.py``.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.clock import SystemClock
from tests.acceptance.ward import a_ward, until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs import sandbox

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward

_UNIT = Path(__file__).parents[2] / "configs" / "ward-gateway.service"
_PLANTED = Path(__file__).parent / "planted" / "curious.py"
_PACK = b'[{"n":"hr","u":"1/min","v":72}]'
_CHANGED = 0x44

_WORKERS = (2, 1, 3, 4)

_WITHOUT = {
    "writable": ("ProtectSystem",),
    "executable": ("NoExecPaths", "ExecPaths"),
    "any-call": ("SystemCallFilter", "RestrictNamespaces"),
}


def _run(run: Run) -> Found:
    failures: list[str] = []
    refused = 0
    unit = run.folder / _UNIT.name
    gone = _WITHOUT.get(run.fault or "", ())
    lines = _UNIT.read_text().splitlines(keepends=True)
    unit.write_text("".join(one for one in lines if one.partition("=")[0] not in gone))
    for done in range(1, run.runs + 1):
        folder = run.folder / str(done)
        folder.mkdir()
        with a_ward(folder) as ward:
            # One that only has to show what it could do need not do anything else.
            works = run.fault is None
            found = _tries(ward, unit, workers=_WORKERS[done - 1] if works else 1, works=works)
        refused += sum(said != "done" for said in found.values())
        failures += [f"it could {name}" for name, said in found.items() if said == "done"]
        run.progress(done)
    return Found(failures, {"attempts refused": refused})


def _tries(ward: Ward, unit: Path, *, workers: int, works: bool) -> dict[str, str]:
    """What the gateway could do in its sandbox; it ``works`` before and afterwards."""
    ward.make()
    device = ward.enter("bracelet-1")
    ward.environment["CURIOUS"] = str(ward.state)
    ward.environment["WARD_GATEWAY_COAP__WORKERS"] = str(workers)
    if works:
        ward.start_cloud()
    python = sys.executable
    program = (python, sandbox.__file__, str(unit), str(ward.state), python, "-P", str(_PLANTED))
    ward.gateway = ward.spawn("gateway", "run", "--config", str(ward.config), program=program)
    ward.await_gateway()
    assert not works or ward.post(device, "v", _PACK) == _CHANGED
    ward.gateway.send_signal(signal.SIGUSR1)
    told = ward.state / "tries.json"
    until(told.exists)
    if works:
        assert ward.post(device, "v", _PACK) == _CHANGED
        ward.delivered()
        assert ward.status()["clock"]["synchronised"] == SystemClock().synchronised()
        ward.assert_no_bugs()
    assert ward.stop_gateway() == 0
    found: dict[str, str] = json.loads(told.read_text())
    return found


register(
    Experiment(
        id="S-23",
        name="sandbox",
        target="inside the unit's restrictions the gateway works, alone and with workers; writing "
        "outside the state folder, executing, tracing, raw sockets, namespaces are all refused",
        unit="gateways, of 2, 1, 3, 4 workers",
        short=1,
        long=len(_WORKERS),
        run=_run,
        faults={
            "writable": "the unit without ProtectSystem=strict",
            "executable": "the unit without NoExecPaths=",
            "any-call": "the unit without SystemCallFilter= and RestrictNamespaces=",
        },
        fault_runs=1,
        needs=sandbox.missing,
    )
)
