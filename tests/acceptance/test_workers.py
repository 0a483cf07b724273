"""Two worker processes on one port: nothing lost, nothing doubled, whatever becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.coap.numbers import Code
from gateway.roster import secret
from gateway.workers.place import home
from tests.acceptance.flood import Flood, compare, read_by_all
from tests.acceptance.ward import run, until

if TYPE_CHECKING:
    from tests.acceptance.ward import Device, Ward

_WORKERS = "WARD_GATEWAY_COAP__WORKERS"
_VF = b'[{"n":"rhythm","vs":"VF"},{"n":"boot","v":1},{"n":"seq","v":1}]'


@pytest.fixture
def two(ward: Ward) -> Ward:
    """Nothing runs yet."""
    ward.environment[_WORKERS] = "2"
    return ward


def _patient_of(ward: Ward, worker: int) -> str:
    """One whose home it is."""
    key = secret.pseudonym_key(secret.load(ward.state))
    names = (f"P{number}" for number in range(100))
    return next(name for name in names if home(secret.pseudonym(key, name), 2) == worker)


def _workers(ward: Ward) -> list[int]:
    """Process ids."""
    assert ward.gateway is not None
    children = Path(f"/proc/{ward.gateway.pid}/task/{ward.gateway.pid}/children")
    return [int(one) for one in children.read_text().split()]


def _are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids)


def _reloaded(ward: Ward) -> set[str]:
    """Which workers say that they have read the configuration again."""
    return set(re.findall(r'worker=(\d) .*msg="reloaded', ward.log("gateway")))


async def _post_from_new_ports(ward: Ward, device: Device, times: int) -> None:
    """Each over an association of its own, which the kernel gives to one worker or the other."""
    for seq in range(times):
        link = await ward.link(device)
        pack = f'[{{"n":"hr","v":72}},{{"n":"boot","v":1}},{{"n":"seq","v":{seq}}}]'.encode()
        for _ in range(2):
            answer = await link.request(Code.POST, ("v",), payload=pack, content_format=110)
            assert answer.code == Code.CHANGED
    await ward.close_links()


def test_a_flood_a_kill_and_fewer_workers(two: Ward, tmp_path: Path) -> None:
    """One worker is killed while nodes send: all end, and say why. Started again they go on; then
    a gateway of one process delivers what waited in both outboxes. Nothing acknowledged is missing,
    nothing is doubled."""
    two.start_gateway()
    flood = Flood(two, tmp_path, nodes=20, speed=10, seconds=20)
    flood.reached(150)
    assert two.gateway is not None
    workers = _workers(two)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    assert two.gateway.wait(20) == 1
    assert f"worker 1 (process {workers[1]}) has ended: killed by SIGKILL" in two.log("gateway")
    assert _are_gone(workers)
    assert flood.runs()

    two.start_gateway()
    flood.reached(flood.count() + 150)
    flood.interrupt()
    status = two.status()
    shares = [worker["messages"].get("admitted", 0) for worker in status["workers"]]
    assert sum(shares) == status["messages"]["admitted"] > 100
    assert two.stop_gateway() == 0
    waiting = sum(row["waiting"] for row in json.loads(two.ask("--json", "outbox", "status")))
    assert waiting >= flood.count() > 300

    two.environment[_WORKERS] = "1"
    two.start()
    assert "outbox-1.db: of a worker that is no more" in two.log("gateway")
    assert compare(flood.acknowledged(), read_by_all(two)) == ([], [])
    assert not _workers(two)
    assert two.stop_gateway() == 0
    rows = json.loads(two.ask("--json", "outbox", "status"))
    assert sum(row["delivered"] for row in rows) == waiting


def test_simulate_to_the_end(two: Ward, tmp_path: Path) -> None:
    """Sent = acknowledged = stored, and each once."""
    two.start()
    journal = tmp_path / "journal.jsonl"
    words = ("simulate", "--gateway", two.uri, "--nodes", "8", "--speed", "8", "--for", "3")
    report = json.loads(two.ask(*words, "--journal", str(journal), "--json"))
    assert report["sent"] == report["acknowledged"] > 100
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    acknowledged = [(line["device"], line["boot"], line["seq"]) for line in lines]
    read = read_by_all(two)
    assert len(read) == report["sent"]
    assert compare(acknowledged, read) == ([], [])
    two.assert_no_bugs()
    assert two.stop_gateway() == 0


def _verdicts(ward: Ward) -> list[dict[str, Any]]:
    """Alarms that a node's own verdict raised: that none can be delivered is one too."""
    alarms = json.loads(ward.ask("--json", "alarm", "list"))
    return [alarm for alarm in alarms if alarm["rule"] == "verdict"]


def test_ports_alarms_and_signals(two: Ward) -> None:
    """A device's packs come in by both sockets and are stored once, in one outbox; alarms are
    listed for all and move with their patients; SIGHUP reaches every worker; nobody is orphaned."""
    devices = [two.enter(f"home-{n}", _patient_of(two, n)) for n in range(2)]
    two.start_gateway()
    asyncio.run(_post_from_new_ports(two, devices[0], 12))
    status = two.status()
    assert status["outbox"]["lanes"]["routine"]["rows"] == 12
    by_worker = [worker["messages"] for worker in status["workers"]]
    assert [worker.get("admitted", 0) for worker in by_worker] == [12, 0]
    assert by_worker[1]["handed_over"] > 0
    assert status["dtls"]["handshakes_done"] == 12
    for device in devices:
        assert two.post(device, "v", _VF) == Code.CHANGED
    listed = _verdicts(two)
    assert {alarm["device"] for alarm in listed} == {"home-0", "home-1"}

    assert two.gateway is not None
    two.gateway.send_signal(signal.SIGHUP)
    until(lambda: _reloaded(two) == {"0", "1"})
    said = run("--config", str(two.config), "run", environment=two.environment, code=1)
    assert "in use by a running gateway" in said

    workers = _workers(two)
    assert two.stop_gateway(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: _are_gone(workers))

    two.environment[_WORKERS] = "1"
    two.start_gateway()
    assert _verdicts(two) == listed
    # The condition ends, and so does the alarm, here and on the disk.
    assert two.post(devices[1], "v", _VF.replace(b"VF", b"N").replace(b'"v":1}]', b'"v":2}]')) == (
        Code.CHANGED
    )
    left = [alarm for alarm in listed if alarm["device"] == "home-0"]
    assert _verdicts(two) == left
    assert two.stop_gateway() == 0
    two.environment[_WORKERS] = "2"
    two.start_gateway()
    assert _verdicts(two) == left
    assert two.stop_gateway() == 0


def test_a_start_in_a_strange_folder_with_a_signal_in_it(two: Ward, tmp_path: Path) -> None:
    """Workers are of the supervisor's build whatever lies in the folder that it was called in:
    there may be a checkout, or somebody else's files. SIGHUP would end a worker that has only just
    begun, so it waits for them."""
    stray = tmp_path / "here" / "gateway"
    stray.mkdir(parents=True)
    (stray / "__init__.py").write_text("raise SystemExit('not the gateway')\n")
    two.begin_gateway(stray.parent)
    until(lambda: len(_workers(two)) == 2)
    assert two.gateway is not None
    two.gateway.send_signal(signal.SIGHUP)
    two.await_gateway()
    until(lambda: _reloaded(two) == {"0", "1"})
    assert [worker["associations"] for worker in two.status()["workers"]] == [0, 0]
    assert two.stop_gateway() == 0


def test_a_worker_is_not_started_by_hand(ward: Ward) -> None:
    """And a port that somebody has is told in one line, as without workers."""
    said = ward.ask("run", "--worker", "0/2", code=1)
    assert said.splitlines() == [line for line in said.splitlines() if "supervisor" in line]
    ward.environment[_WORKERS] = "0"
    assert "workers must be 1 to 64" in ward.ask("run", code=78)
