"""What asks everybody, or comes from nobody, is not answered."""

from __future__ import annotations

import random
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from gateway.dtls.server import Server
from gateway.ingress import udp
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.experiments.rigs.puppet import Puppet, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gateway.dtls.association import Path
    from tests.experiments.rigs.hostile import Faults, Target

_ALL_HOSTS: Final = "224.0.0.1"
"""Every host is in this group, whether or not a program has joined it."""

_ALL_COAP_NODES: Final = "224.0.1.187"
_GOOD: Final = 777
_PING: Final = b"\x40\x00\x12\x34"
_GET: Final = b"\x40\x01\x12\x34\xb4time"


def _needs() -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW):
            return None
    except PermissionError:
        return "raw sockets (CAP_NET_RAW)"


def _datagrams(chance: random.Random) -> list[bytes]:
    """A hello, and Confirmable messages: in the clear and as application data."""
    return [Puppet(chance).hello(), _PING, _GET, record(23, 0, _GET), record(23, 0, _GET, epoch=1)]


class _Everybody:
    """One socket, bound to the loopback's address, that hears every answer."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
        )
        self._socket.bind(("127.0.0.1", 0))
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def group(self, group: str, port: int, datagram: bytes) -> None:
        self._socket.sendto(datagram, (group, port))

    def forged(self, source: str, source_port: int, port: int, datagram: bytes) -> None:
        """With a source that no socket would be given."""
        head = struct.pack("!HHHH", source_port, port, 8 + len(datagram), 0)
        ip = struct.pack(
            *("!BBHHHBBH4s4s", 0x45, 0, 28 + len(datagram), 0, 0, 64, 17, 0),
            *(socket.inet_aton(source), socket.inet_aton("127.0.0.1")),
        )
        self._raw.sendto(ip + head + datagram, ("127.0.0.1", 0))

    def hears(self, port: int, chance: random.Random) -> list[bytes]:
        """What came before the answer to a good hello, the last."""
        good = Puppet(chance)
        good.number = _GOOD  # which comes back in the answer (RFC 6347 section 4.2.1)
        self._socket.sendto(good.hello(), ("127.0.0.1", port))
        heard: list[bytes] = []
        self._socket.settimeout(10.0)
        while True:
            datagram = self._socket.recv(65_535)
            if int.from_bytes(datagram[5:11], "big") == _GOOD:
                return heard
            heard.append(datagram)

    def close(self) -> None:
        self._socket.close()
        self._raw.close()


def _answered(target: Target, *, refused: bool) -> int:
    """Answers that the gateway has made; without those that the kernel ``refused`` to send."""
    status = target.status()
    count: int = status["dtls"].get("cookie_challenges", 0)
    return count - status["unsent_datagrams"] if refused else count


def _run(run: Run) -> Found:
    failures = []
    chance = random.Random(run.seed)
    with attacked(run, _FAULTS) as target:
        everybody, port = _Everybody(), target.anywhere()
        ways: dict[str, Callable[[bytes], None]] = {
            "group of all hosts": partial(everybody.group, _ALL_HOSTS, port),
            "group of all CoAP nodes": partial(everybody.group, _ALL_COAP_NODES, port),
            "source port 0": partial(everybody.forged, "127.0.0.9", 0, port),
            "source the broadcast of all": partial(everybody.forged, "255.255.255.255", 5684, port),
            "source of a network's broadcast": partial(
                everybody.forged, "127.255.255.255", 5684, port
            ),
            "source a group": partial(everybody.forged, _ALL_HOSTS, 5684, port),
        }
        for done, (name, send) in enumerate(ways.items()):
            # That an address is a network's broadcast is the kernel's to know: it lets nobody send
            # there who has not asked for it (man 7 socket, SO_BROADCAST).
            before = _answered(target, refused="broadcast" in name)
            for _ in range(run.runs):
                for datagram in _datagrams(chance):
                    send(datagram)
            heard = everybody.hears(port, chance)
            # One is the answer to the good hello.
            made = _answered(target, refused="broadcast" in name) - before - 1
            if heard or made:
                failures.append(f"{name}: {len(heard)} answers heard, {made} made")
            run.progress(run.runs * (done + 1) // len(ways))
        everybody.close()
    return Found(failures, {"ways": len(ways)})


# -- faults


def _group_heard() -> AbstractContextManager[object]:
    """Another option is set: as if this one were not there."""
    return patch.object(udp, "_IP_MULTICAST_ALL", socket.IP_MULTICAST_TTL)


def _port_0() -> AbstractContextManager[object]:
    understand = Server._hello_untrusted

    def careless(self: Server, datagram: bytes, path: Path, now: float) -> None:
        before = len(self.outgoing)
        host, port = path.address[0], path.address[1]
        understand(self, datagram, path._replace(address=(host, port or 1)), now)
        self.outgoing[before:] = [(one, path) for one, _ in self.outgoing[before:]]

    return patch.object(Server, "_hello_untrusted", careless)


_FAULTS: Faults = {
    "groups-heard": ("groups that others have joined are heard, too", _group_heard),
    "port-0": ("port 0 is taken for a port", _port_0),
}

register(
    Experiment(
        id="S-18",
        name="unanswerable",
        target="no answer to groups, to broadcast or group sources, to port 0",
        unit="times of each",
        short=10,
        long=1000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=1,
        needs=_needs,
    )
)
