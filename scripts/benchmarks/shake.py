"""The load generator of handshakes: full ones, each from a port of its own, several at a time.

Arguments: one JSON object. Talks as load.py does: ``ready``, a line, the window, ``end``, result.
The node's side is OpenSSL's work as much as the server's, so the generator may well be as busy as
the server: compare CPU seconds of the server, and see how busy both were.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certs import files
from gateway.dtls.client import Client
from gateway.dtls.credentials import Identity
from gateway.dtls.engines.openssl import OpensslCertifiedClient, OpensslClient
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from gateway.dtls.client import ClientFactory

_MTU = 1232
_LARGEST = 65_535
_LOOK_S = 0.25


class Shaking:
    """``at_once`` handshakes under way, a new one for each that ends."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._address = ("127.0.0.1", arguments["port"])
        self._engines = _engines(arguments)
        self._at_once: int = arguments["at_once"]
        self._under_way: dict[int, tuple[socket.socket, Client]] = {}
        self._poll = select.epoll()
        self.done = 0
        self.failed: list[str] = []

    def window(self, seconds: float) -> None:
        """Shake hands for so long."""
        until = time.monotonic() + seconds
        next_look = time.monotonic() + _LOOK_S
        for _ in range(self._at_once):
            self._begin()
        while (now := time.monotonic()) < until:
            for descriptor, _ in self._poll.poll(0.05):
                if self._turn(descriptor):
                    self._begin()
            if now >= next_look:
                next_look = now + _LOOK_S
                for one, client in self._under_way.values():
                    client.handle_timer(now)
                    _send(one, client)

    def _begin(self) -> None:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.connect(self._address)
        one.setblocking(False)
        client = Client(self._engines, mtu=_MTU, now=time.monotonic())
        _send(one, client)
        self._under_way[one.fileno()] = one, client
        self._poll.register(one, select.EPOLLIN)

    def _turn(self, descriptor: int) -> bool:
        """Take in what came; True when this handshake is over."""
        one, client = self._under_way[descriptor]
        try:
            client.receive(one.recv(_LARGEST), time.monotonic())
        except DtlsError as error:
            self.failed.append(str(error))
        else:
            _send(one, client)
            if client.association is None:
                return False
            self.done += 1
            one.send(client.association.close())
        self._poll.unregister(one)
        del self._under_way[descriptor]
        one.close()
        return True


def _send(one: socket.socket, client: Client) -> None:
    for datagram in client.outgoing:
        one.send(datagram)
    client.outgoing = []


def _engines(arguments: dict[str, Any]) -> ClientFactory:
    if "device" not in arguments:
        return OpensslClient(b"bench-0", arguments["key"].encode(), [arguments["suite"]])
    folder = Path(arguments["device"])
    identity = Identity(
        files.load_certificate(folder / "device.pem"),
        files.load_private(folder / "device.key"),
        files.load_certificate(folder / "ca.pem"),
    )
    return OpensslCertifiedClient(identity, [arguments["suite"]])


def main() -> None:
    """See the module."""
    arguments = json.loads(sys.argv[1])
    shaking = Shaking(arguments)
    print("ready", flush=True)
    sys.stdin.readline()
    began, busy = time.perf_counter(), time.process_time()
    shaking.window(arguments["seconds"])
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    print("end", flush=True)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "done": shaking.done,
                "rate": shaking.done / seconds,
                "failed": len(shaking.failed),
                "why": shaking.failed[0] if shaking.failed else None,
                "generator_busy": busy / seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
