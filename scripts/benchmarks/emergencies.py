"""The two ends between which an emergency is timed: the node that reports it, and the cloud store
that notes when its upload arrives. Both read CLOCK_MONOTONIC of one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servers import DEVICES, KEY
from servers.programs import python_peer

from gateway.lane import Lane
from gateway.reader import profile
from gateway.reader.fetch import CloudClient
from gateway.reader.opening import Opened, Opening
from gateway.reader.reading import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Row
    from servers import Running
    from servers.ours import Ward

NODE = DEVICES - 1
"""The device that has the emergencies; a flood comes from the first ones."""

_FIRST_TIME = 1_790_000_000
_TIMES_A_WINDOW = 10_000
_READER = "alarm-centre"


class Cloud:
    """The watched cloud store of a ward, which can go away and come back."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self._notes = ward.folder / "uploads"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The store listens."""
        config = self._ward.folder / "cloud.toml"
        with python_peer("watched_cloud.py", str(config), str(self._notes)):
            yield

    def uploads(self) -> dict[str, float]:
        """Record id -> when its first upload reached the store."""
        started: dict[str, float] = {}
        for line in self._notes.read_text().splitlines():
            note = json.loads(line)
            for record in note["ids"]:
                started.setdefault(record, note["at"])
        return started

    def emergencies(self) -> dict[int, str]:
        """Time in the pack -> record id, as the alarm centre reads them; the store must run."""
        return asyncio.run(self._emergencies())

    async def _emergencies(self) -> dict[int, str]:
        reader = profile.load(self._ward.folder / "recipients" / _READER)
        opening = Opening(reader.load_authority(), reader.load_sealing_key())
        found: dict[int, str] = {}
        async with CloudClient(reader) as client:
            async for event in read(client, opening, lane=Lane.EMERGENCY):
                if isinstance(event, Opened) and event.records:
                    found[round(event.records[0].time)] = event.id.hex()
        return found


class EmergencyNode:
    """The program emergency_node.py. ``with``: connected; then :meth:`start`, :meth:`finish`."""

    def __init__(self, server: Running, window: int) -> None:
        self.first_time = _FIRST_TIME + window * _TIMES_A_WINDOW
        self._arguments = {
            "port": server.port,
            "key": KEY,
            "number": NODE,
            "path": ["a"],
            "first_time": self.first_time,
        }

    def __enter__(self) -> Self:
        program = Path(__file__).with_name("emergency_node.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), json.dumps(self._arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit("the emergency node could not connect")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self) -> None:
        """Report from now on."""
        self._line()

    def finish(self) -> Row:
        """No more; what is unanswered is waited for. See emergency_node.py."""
        self._line()
        assert self._process.stdout is not None
        row: Row = json.loads(self._process.stdout.readline())
        return row

    def _line(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
