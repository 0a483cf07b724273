"""One node that reports an emergency about once a second: a process of its own, so that no flood's
work delays it.

It is a client by RFC 7252 section 4.2: what is not acknowledged in time is sent again, four times,
each time after twice as long. The times between two emergencies are 0.5 to 1.5 s, so that they do
not fall in with anything periodic.

Arguments: one JSON object (port, key, number of the device, path, first_time: UTC seconds of the
first pack, each next one second later). Standard output: ``ready``; then, between a first and a
second line on standard input, it reports; then it waits for what is still unanswered and prints
``{"emergencies": [[sent, answered, code], ...], "resent": N}``; times are seconds of
CLOCK_MONOTONIC, answered and code None if no answer came.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from packs import TOKEN_BYTES, pack
from requester import Requester

from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import Code, ContentFormat, Option, Type

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 3600
BETWEEN_S = (0.5, 1.5)
_LOOK_S = 0.02
_GIVE_UP_S = 100.0
"""Longer than MAX_TRANSMIT_WAIT, 93 s: the requester gives up before."""


def emergencies(arguments: dict[str, Any]) -> Iterator[bytes]:
    """Requests; the n-th has Message ID and token n."""
    values = random.Random(1)
    options = tuple((Option.URI_PATH, part.encode()) for part in arguments["path"])
    options += ((Option.CONTENT_FORMAT, bytes((ContentFormat.SENML_CBOR,))),)
    for n in range(MOST):
        payload = pack(arguments["number"], arguments["first_time"] + n, values)
        token = n.to_bytes(TOKEN_BYTES, "big")
        yield message.encode(Message(Type.CON, Code.POST, n, token, options, payload))


def main() -> None:
    """See the module."""
    arguments = json.loads(sys.argv[1])
    node = Requester(arguments["number"], ("127.0.0.1", arguments["port"]))
    node.connect(arguments["key"].encode())
    node.prepare(emergencies(arguments), careful=True)
    waiting = select.poll()
    waiting.register(node.socket, select.POLLIN)
    print("ready", flush=True)
    sys.stdin.readline()
    waiting.register(sys.stdin, select.POLLIN)
    between = random.Random(arguments["first_time"])
    sent: list[float] = []
    due = time.perf_counter() + between.uniform(0.0, BETWEEN_S[0])
    until = None
    while until is None or (not node.idle() and time.perf_counter() < until):
        wait = _LOOK_S if until is not None else min(_LOOK_S, due - time.perf_counter())
        ready = {descriptor for descriptor, _ in waiting.poll(max(wait, 0.0) * 1000)}
        now = time.perf_counter()
        if node.socket.fileno() in ready:
            node.turn(now)
        if until is None and sys.stdin.fileno() in ready:
            waiting.unregister(sys.stdin)
            until = now + _GIVE_UP_S
        if until is None and now >= due:
            sent.append(now)
            node.send(1, now)
            due += between.uniform(*BETWEEN_S)
        node.look(now)
    answered = {one.request: one for one in node.answers}
    rows = [
        [at, answered[n].came, answered[n].code] if n in answered else [at, None, None]
        for n, at in enumerate(sent)
    ]
    print(json.dumps({"emergencies": rows, "resent": node.resent}), flush=True)
    node.close()


if __name__ == "__main__":
    main()
