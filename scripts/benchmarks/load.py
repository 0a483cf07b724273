"""The load generator: a process of its own, cheaper per request than any server it drives.

Everything that can be done before the clock starts is done before: handshakes, and protecting every
request. While the clock runs it only sends and receives. Afterwards every answer is opened and
checked. A closed loop: each association has a fixed number of requests in flight.

Arguments: one JSON object. Result: one JSON object on standard output.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import cbor2

from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient

SUITE = "PSK-AES128-CCM8"
STALLED_S = 0.5
"""Without any answer for so long what is in flight is sent again."""

STALLS = 10


@dataclass
class Association:
    """One simulated node."""

    socket: socket.socket
    client: Client
    requests: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    sent: int = 0


def pack(number: int, boot: int, seq: int) -> bytes:
    """What a bracelet with a clock sends: about 90 bytes, never the same twice."""
    time = 1_795_000_000 + 100_000 * boot + seq
    rate = 60 + (number + seq) % 30
    return cbor2.dumps(
        [
            {-2: f"bench-{number}/", -3: time, 0: "hr", 1: "1/min", 2: rate},
            {0: "spo2", 1: "/100", 2: 97},
            {0: "resp", 1: "1/min", 2: 12 + seq % 8},
            {0: "temp", 1: "Cel", 2: 36.6},
            {0: "contact", 4: True},
        ]
    )


def connect(arguments: dict[str, Any], number: int) -> Association:
    """One finished handshake."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.connect((arguments["host"], arguments["port"]))
    one.settimeout(5.0)
    identity = f"bench-{number}".encode()
    engines = OpensslClient(identity, arguments["key"].encode(), [SUITE])
    client = Client(engines, mtu=1232, now=time.monotonic())
    while client.association is None:
        for datagram in client.outgoing:
            one.send(datagram)
        client.outgoing = []
        client.receive(one.recv(65_535), time.monotonic())
    for datagram in client.outgoing:
        one.send(datagram)
    client.outgoing = []
    one.setblocking(False)
    return Association(one, client)


def prepare(
    association: Association, arguments: dict[str, Any], number: int, boot: int, first: int
) -> None:
    """Protect every request of one association."""
    path = tuple((Option.URI_PATH, part.encode()) for part in arguments["path"])
    options = (*path, (Option.CONTENT_FORMAT, bytes((112,))))
    code = Code[arguments["method"]]
    protected = association.client.association
    assert protected is not None
    for seq in range(first, first + arguments["each"]):
        mid = seq & 0xFFFF
        asked = Message(Type.CON, code, mid, b"\x01", options, pack(number, boot, seq))
        association.requests.append(protected.protect(message.encode(asked)))


def drive(associations: list[Association], in_flight: int) -> float:
    """Send everything, ``in_flight`` at a time for each; the seconds it took."""
    waiting = select.epoll()
    by_descriptor = {}
    for one in associations:
        waiting.register(one.socket, select.EPOLLIN)
        by_descriptor[one.socket.fileno()] = one
    left = sum(len(one.requests) for one in associations)
    resent = 0
    began = time.perf_counter()
    for one in associations:
        for request in one.requests[:in_flight]:
            one.socket.send(request)
        one.sent = min(in_flight, len(one.requests))
    while left:
        ready = waiting.poll(STALLED_S)
        if not ready:
            resent += 1
            if resent > STALLS:
                raise SystemExit("the server has stopped answering")
            # What had been received is dropped there as a replay; what was lost counts now.
            for one in associations:
                for request in one.requests[max(0, one.sent - in_flight) : one.sent]:
                    one.socket.send(request)
        for descriptor, _ in ready:
            one = by_descriptor[descriptor]
            send, receive = one.socket.send, one.socket.recv
            requests, answers = one.requests, one.answers
            try:
                while True:
                    answers.append(receive(2048))
                    left -= 1
                    if one.sent < len(requests):
                        send(requests[one.sent])
                        one.sent += 1
            except BlockingIOError:
                pass
    took = time.perf_counter() - began
    waiting.close()
    return took


def check(association: Association) -> int:
    """How many requests were answered 2.04 (or 2.01); each answer is opened and compared."""
    good = set()
    now = time.monotonic()
    for answer in association.answers:
        for plaintext in association.client.receive(answer, now):
            got = message.decode_untrusted(plaintext)
            if got.code in (Code.CHANGED, Code.CREATED) and got.token == b"\x01":
                good.add(got.mid)
    return len(good)


def main() -> None:
    """See the module."""
    arguments = json.loads(sys.argv[1])
    boot = arguments["boot"]
    associations = [connect(arguments, n) for n in range(arguments["associations"])]
    for number, one in enumerate(associations):
        prepare(one, arguments, number, boot, 0)
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    took = drive(associations, arguments["in_flight"])
    cpu = time.process_time() - cpu
    acknowledged = sum(check(one) for one in associations)
    for one in associations:
        assert one.client.association is not None
        one.socket.send(one.client.association.close())
    sent = sum(len(one.requests) for one in associations)
    print(
        json.dumps(
            {
                "sent": sent,
                "acknowledged": acknowledged,
                "seconds": took,
                "rate": sent / took,
                "generator_busy": cpu / took,
                "request_bytes": len(associations[0].requests[0]),
            }
        )
    )


if __name__ == "__main__":
    main()
