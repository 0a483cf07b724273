"""What a worker gets at its start, and how it knows of the supervisor's end: a real process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from gateway.errors import UsageError
from gateway.workers import lifeline

_CHILD = """
import asyncio
from gateway.workers import lifeline
worker, line = lifeline.join("1/3")
assert (worker.place.number, worker.place.count) == (1, 3)
worker.sockets[0].send(b"bound")
for number, link in worker.links.items():
    link.send(b"to %d" % number)
async def serve():
    lifeline.hold(line)
    lifeline.ready(line)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


def test_a_worker_has_its_sockets_and_links_and_ends_with_the_supervisor() -> None:
    ours, theirs = socket.socketpair()
    bound, links = socket.socketpair(), {0: socket.socketpair(), 2: socket.socketpair()}
    lifeline.offer(ours, [bound[0]], {number: ends[0] for number, ends in links.items()})
    child = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=theirs.fileno())
    theirs.close()
    ours.settimeout(20)
    assert ours.recv(64) == lifeline.READY
    assert bound[1].recv(64) == b"bound"
    assert [links[number][1].recv(64) for number in (0, 2)] == [b"to 0", b"to 2"]
    assert child.poll() is None
    ours.close()
    assert child.wait(20) == 1
    for one in (*bound, *links[0], *links[2]):
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
