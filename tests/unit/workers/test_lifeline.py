"""What a worker gets at its start, and how it knows of the supervisor's end: a real process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from gateway.errors import UsageError
from gateway.workers import lifeline
from gateway.workers.lifeline import Pair

_CHILD = """
import asyncio
from gateway.workers import lifeline
worker, line = lifeline.join("1/3")
assert (worker.place.number, worker.place.count) == (1, 3)
worker.sockets[0].send(b"bound")
for number, pair in worker.links.items():
    pair.routine.send(b"routine to %d" % number)
    pair.declared.send(b"declared to %d" % number)
async def serve():
    lifeline.hold(line)
    lifeline.ready(line)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


def test_a_worker_has_its_sockets_and_links_and_ends_with_the_supervisor() -> None:
    ours, theirs = socket.socketpair()
    bound, streams = socket.socketpair(), [socket.socketpair() for _ in range(4)]
    near = [ends[0] for ends in streams]
    lifeline.offer(ours, [bound[0]], {0: Pair(*near[:2]), 2: Pair(*near[2:])})
    child = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=theirs.fileno())
    theirs.close()
    ours.settimeout(20)
    assert ours.recv(64) == lifeline.READY
    assert bound[1].recv(64) == b"bound"
    assert [ends[1].recv(64) for ends in streams] == [
        *(b"routine to 0", b"declared to 0", b"routine to 2", b"declared to 2")
    ]
    assert child.poll() is None
    ours.close()
    assert child.wait(20) == 1
    for one in (*bound, *(end for ends in streams for end in ends)):
        one.close()


def test_nobody_but_a_supervisor_starts_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(lifeline, "_STDIN", reading)
    with pytest.raises(UsageError, match="for the supervisor"):
        lifeline.join("0/2")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("place", ["", "0", "x/2", "0/"])
def test_a_place_that_is_none(place: str) -> None:
    with pytest.raises(UsageError, match="for the supervisor"):
        lifeline.join(place)
