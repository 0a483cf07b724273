"""The demonstration: a whole ward on one machine, with real processes and real heartbeats.

A cloud store and a gateway run as the programs that they are; bracelets in this process send over
DTLS; at the end the recipients read back everything and it is compared with what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway import control, provision
from gateway.clock import SystemClock
from gateway.errors import UsageError
from gateway.lane import Lane
from gateway.node import recording
from gateway.node.fleet import Fleet, Node
from gateway.node.link import Target
from gateway.reader import profile
from gateway.reader.fetch import CloudClient
from gateway.reader.opening import Opened, Opening
from gateway.reader.reading import Unopened, read
from gateway.roster.devices import Devices, new_device
from gateway.roster.recipients import Recipients

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator
    from pathlib import Path

EMERGENCY: Final = ("mitdb_232_912", 33.0)
"""The recording that the first bracelet plays, and where it begins: a sinus arrest of 4.2 seconds
follows 8 seconds later."""

_READERS: Final = {Lane.ROUTINE: "doctor", Lane.EMERGENCY: "alarm-centre"}
_START_WITHIN_S: Final = 20.0
_DELIVERED_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 15.0
_FIRST_PORT: Final = 15_684


class Summary(NamedTuple):
    """What came of it. The demonstration is a success if ``complete``."""

    sent: int
    acknowledged: int
    stored: int
    """Records that the cloud store has confirmed."""
    opened: dict[str, int]
    """Records opened, by recipient."""
    missing: int
    """Acknowledged packs that no recipient could open."""
    doubled: int
    """Acknowledged packs that were read more than once."""
    alarms: list[dict[str, Any]]
    """Each alarm that was raised: rule, patient, device, detail."""
    latency_ms: dict[str, float]
    """Of emergencies, from the datagram to the cloud's confirmation: count, median, maximum."""

    @property
    def complete(self) -> bool:
        """Everything acknowledged was read back and opened, once, and an emergency was among it."""
        return not self.missing and not self.doubled and self.acknowledged > 0


@dataclass(slots=True)
class Ward:
    """A ward in its folder, with its processes."""

    folder: Path
    ports: provision.Ports
    nodes: list[Node]
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """The gateway's state folder."""
        return self.folder / "state"

    def status(self) -> dict[str, Any] | None:
        """What the gateway says of itself; None if it is gone."""
        answer: dict[str, Any] | None = control.ask(self.state, "status")
        return answer


def free_port_base() -> int:
    """Four ports in a row that nothing uses on this machine."""
    for base in range(_FIRST_PORT, 60_000, 10):
        with contextlib.ExitStack() as stack:
            try:
                datagrams, streams = socket.SOCK_DGRAM, socket.SOCK_STREAM
                for offset, kind in ((0, datagrams), (2, streams), (3, streams)):
                    one = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if kind is socket.SOCK_STREAM:  # on UDP it would hide who is there
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise UsageError("no four free ports in a row; name some with --port-base")


def prepare(folder: Path, *, nodes: int, port_base: int | None) -> Ward:
    """Make the ward and its devices. Raises UsageError or ConfigError."""
    wall = SystemClock().wall()
    base = port_base or free_port_base()
    provision.make_ward(folder, ward="Demonstration", cloud_url=None, port_base=base, wall=wall)
    devices = Devices(folder / "state" / "devices.json")
    made = [
        new_device(
            f"bracelet-{number}",
            patient=f"bed-{number}",
            key=None,
            lenient_units=False,
            today=provision.today(wall),
        )
        for number in range(1, nodes + 1)
    ]
    devices.add(*made)
    Recipients(folder / "state" / "recipients.json").widen("patient", ("bed-1",))
    nodes_made = [Node(device.id, device.key) for device in made]
    return Ward(folder, provision.Ports.of(base), nodes_made)


@contextlib.asynccontextmanager
async def running(ward: Ward) -> AsyncIterator[None]:
    """Start the cloud store and the gateway; stop them at the end. Raises UsageError."""
    log = ward.folder / "demo.log"
    try:
        for words in (
            ("cloud", "run", "--config", str(ward.folder / "cloud.toml")),
            ("run", "--config", str(ward.folder / "gateway.toml")),
        ):
            with log.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # what this process runs, not a package that lies where it was called
                    "-m",
                    "gateway",
                    *words,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    # Ctrl-C in a terminal is for the demonstration, which then sums up.
                    process_group=0,
                )
            ward.processes.append(process)
            assert process.stdout is not None
            # Each says one line when it listens.
            line = await asyncio.wait_for(process.stdout.readline(), _START_WITHIN_S)
            if not line:
                raise UsageError(f"`ward-gateway {words[0]}` did not start; see {log}")
        yield
    finally:
        for process in reversed(ward.processes):
            if process.returncode is None:
                process.terminate()
        for process in ward.processes:
            try:
                await asyncio.wait_for(process.wait(), _STOP_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def bracelets(ward: Ward, speed: float, journal: io.StringIO) -> Fleet:
    """One recording each; the first runs into its emergency."""
    recordings = recording.load_all()
    name, start = EMERGENCY
    first = next(one for one in recordings if one.name == name)
    others = [one for one in recordings if one.name != name]
    return Fleet(
        Target("127.0.0.1", ward.ports.coaps, (), ()),
        ward.nodes,
        [first, *(others[place % len(others)] for place in range(len(ward.nodes) - 1))],
        speed=speed,
        loss=0.0,
        seed=1,
        journal=journal,
        starts={0: start},
    )


async def delivered(ward: Ward) -> dict[str, Any]:
    """Wait until nothing waits in the outbox; the last status. Raises UsageError."""
    until = SystemClock().monotonic() + _DELIVERED_WITHIN_S
    while True:
        status = ward.status()
        if status is None:
            raise UsageError(f"the gateway has stopped; see {ward.folder / 'demo.log'}")
        if all(lane["rows"] == 0 for lane in status["outbox"]["lanes"].values()):
            return status
        if SystemClock().monotonic() > until:
            raise UsageError("the cloud store did not take everything in time")
        await asyncio.sleep(0.1)


async def read_back(ward: Ward, name: str) -> list[Opened]:
    """Everything that one recipient can open. Raises UsageError for a record it cannot."""
    reader = profile.load(ward.folder / "recipients" / name)
    opening = Opening(reader.load_authority(), reader.load_sealing_key())
    opened = []
    async with CloudClient(reader) as client:
        async for event in read(client, opening):
            if isinstance(event, Opened):
                opened.append(event)
            elif isinstance(event, Unopened):
                raise UsageError(f"{name} could not open a record: {event.reason}")
    return opened


async def summarise(ward: Ward, fleet: Fleet, journal: io.StringIO) -> Summary:
    """Compare what was acknowledged with what the recipients can open."""
    status = await delivered(ward)
    times_read: dict[tuple[str, int], int] = {}
    counts = {}
    alarms: dict[tuple[str, str, float], dict[str, Any]] = {}
    for name in (*_READERS.values(), "patient"):
        records = await read_back(ward, name)
        counts[name] = len(records)
        if name == "patient":
            continue  # reads again what the other two have read
        for one in records:
            seq = _sequence(one)
            if seq is not None:
                key = (one.device, seq)
                times_read[key] = times_read.get(key, 0) + 1
            findings: Any = (one.assessment or {}).get("findings", ())
            for finding in findings:
                if finding["priority"] == "emergency":
                    row = {
                        "rule": finding["rule"],
                        "patient": one.patient,
                        "device": one.device,
                        "detail": finding["detail"],
                    }
                    alarms.setdefault((one.patient, finding["rule"], finding["since"]), row)
    promised = [json.loads(line) for line in journal.getvalue().splitlines()]
    keys = [(line["device"], line["seq"]) for line in promised]
    latencies = sorted(status["latency_ms"][Lane.EMERGENCY])
    return Summary(
        sent=fleet.report.sent,
        acknowledged=fleet.report.acknowledged,
        stored=sum(lane["delivered"] for lane in status["outbox"]["lanes"].values()),
        opened=counts,
        missing=sum(times_read.get(key, 0) == 0 for key in keys),
        doubled=sum(times_read.get(key, 0) > 1 for key in keys),
        alarms=list(alarms.values()),
        latency_ms={
            "count": len(latencies),
            "median": round(latencies[len(latencies) // 2], 1),
            "maximum": round(latencies[-1], 1),
        }
        if latencies
        else {"count": 0},
    )


def _sequence(one: Opened) -> int | None:
    for record in one.records or ():
        if record.name.endswith("/seq") and record.value is not None:
            return int(record.value)
    return None
