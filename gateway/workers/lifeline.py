"""The worker's end of its supervisor: what it gets at the start, and how it knows of the end.

A worker's standard input is one end of a stream socket. Over it come its sockets and its links; it
says one word when it is ready; and when the supervisor is gone, however that came, so is the other
end, and the worker ends at once: nobody would restart or stop it any more. What it has
acknowledged is on disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Final, NamedTuple

from gateway.errors import UsageError
from gateway.workers.place import ALONE, Place

READY: Final = b"ready\n"

_STDIN: Final = 0
_MESSAGE: Final = 4096
_DESCRIPTORS: Final = 253
"""The most that the kernel passes in one message (SCM_MAX_FD)."""


class Pair(NamedTuple):
    """One worker's ends of its two links to another."""

    routine: socket.socket
    declared: socket.socket
    """For what nodes declare an emergency."""


class Worker(NamedTuple):
    """What one process has of the gateway."""

    place: Place
    sockets: list[socket.socket]
    """Bound already, in the order of ``[coap] listen``."""
    links: dict[int, Pair]
    """To each other worker, by its number."""


WHOLE: Final = Worker(ALONE, [], {})
"""All of it: a gateway without workers."""


def offer(
    supervisors_end: socket.socket, sockets: list[socket.socket], links: dict[int, Pair]
) -> None:
    """Give a worker what :func:`join` takes. Raises OSError."""
    message = json.dumps({"sockets": len(sockets), "links": list(links)}).encode()
    ends = (end for pair in links.values() for end in pair)
    descriptors = [one.fileno() for one in (*sockets, *ends)]
    socket.send_fds(supervisors_end, [message], descriptors)


def join(place: str) -> tuple[Worker, socket.socket]:
    """What the supervisor has for this process, ``"1/4"``, and the worker's end of the lifeline.

    Raises UsageError when no supervisor has started this.
    """
    number, _, count = place.partition("/")
    try:
        found = Place(int(number), int(count))
        lifeline = socket.socket(fileno=os.dup(_STDIN))
        message, descriptors, _, _ = socket.recv_fds(lifeline, _MESSAGE, _DESCRIPTORS)
        told = json.loads(message)
        ends = [socket.socket(fileno=one) for one in descriptors]
        sockets = [ends.pop(0) for _ in range(told["sockets"])]
        pairs = [Pair(*ends[at : at + 2]) for at in range(0, len(ends), 2)]
        links = dict(zip(told["links"], pairs, strict=True))
        return Worker(found, sockets, links), lifeline
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "--worker is for the supervisor: set [coap] workers and type `ward-gateway run`"
        ) from None


def hold(lifeline: socket.socket) -> None:
    """End this process as soon as the supervisor is gone. In the running event loop."""
    lifeline.setblocking(False)

    def gone() -> None:
        try:
            if lifeline.recv(1):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        os._exit(1)

    asyncio.get_running_loop().add_reader(lifeline, gone)


def ready(lifeline: socket.socket) -> None:
    """Tell the supervisor that this worker takes part."""
    lifeline.send(READY)
