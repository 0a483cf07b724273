"""The sockets: real ones, on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.dtls.association import Path
from gateway.errors import ConfigError
from gateway.ingress.mmsg import INBOX
from gateway.ingress.udp import _IPV6_MULTICAST_ALL, BURST, RECEIVE_BUFFER, Sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

IPV4, IPV6 = "127.0.0.1:0", "[::1]:0"


class StillClock(SystemClock):
    """Each burst is read with one reading of each clock; this one counts them."""

    def __init__(self) -> None:
        self.readings = 0

    def monotonic(self) -> float:
        self.readings += 1
        return 12.5

    def wall(self) -> float:
        return 1_800_000_000.5


class Bench:
    """Open sockets, what they received, and a peer for each."""

    def __init__(self, *listen: str) -> None:
        self.sockets = Sockets(listen)
        self.addresses = self.sockets.open()
        self.clock = StillClock()
        self.bursts: list[list[tuple[bytes, Path]]] = []
        self.came = asyncio.Event()
        self.peers = []
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            family = socket.AF_INET6 if "[" in host else socket.AF_INET
            peer = socket.socket(family, socket.SOCK_DGRAM)
            peer.settimeout(5)
            peer.connect((host.strip("[]"), int(port)))
            self.peers.append(peer)

    def start(self) -> None:
        self.sockets.start(self.receive, self.clock)

    def receive(self, burst: list[tuple[bytes, Path]], now: float, wall: float) -> None:
        assert (now, wall) == (12.5, 1_800_000_000.5)
        self.bursts.append(burst)
        self.came.set()

    async def hears(self, count: int) -> list[tuple[bytes, Path]]:
        async with asyncio.timeout(5):
            while sum(map(len, self.bursts)) < count:
                self.came.clear()
                await self.came.wait()
        return [one for burst in self.bursts for one in burst]

    def close(self) -> None:
        self.sockets.close()
        for peer in self.peers:
            peer.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(IPV4, IPV6)
    yield bench
    bench.close()


async def test_datagrams_come_and_go_over_both_families(bench: Bench) -> None:
    """A path names the socket, so that the answer leaves by the one that was asked."""
    bench.start()
    for number, peer in enumerate(bench.peers):
        peer.send(b"to %d" % number)
    heard = await bench.hears(2)
    for number, peer in enumerate(bench.peers):
        ((data, path),) = [one for one in heard if one[1].listener == number]
        assert data == b"to %d" % number
        assert path.address[:2] == peer.getsockname()[:2]
        bench.sockets.send([(b"back %d" % number, path)])
        assert peer.recv(100) == b"back %d" % number
    assert bench.sockets.unsent == 0


async def test_both_families_share_a_port() -> None:
    """`0.0.0.0:P` and `[::]:P` side by side, as the configuration has them by default."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port = probe.getsockname()[1]
    sockets = Sockets([f"0.0.0.0:{port}", f"[::]:{port}"])
    assert sockets.open() == [f"0.0.0.0:{port}", f"[::]:{port}"]
    sockets.close()


async def test_a_burst_is_read_at_once_with_one_look_at_the_clock(bench: Bench) -> None:
    sent = [os.urandom(50) for _ in range(3 * INBOX + 1)]
    for data in sent:
        bench.peers[0].send(data)
    bench.start()
    heard = await bench.hears(len(sent))
    assert [data for data, _ in heard] == sent
    assert len(bench.bursts) == 1
    assert bench.clock.readings == 1


async def test_a_burst_has_an_end(bench: Bench) -> None:
    """Deliveries and timers wait for the loop no longer than that."""
    for number in range(BURST + 44):
        bench.peers[0].send(b"%d" % number)
    if sum(bench.sockets.dropped().values()):
        pytest.skip("net.core.rmem_max leaves no room for so many datagrams")
    bench.start()
    heard = await bench.hears(BURST + 44)
    assert [len(burst) for burst in bench.bursts] == [BURST, 44]
    assert [data for data, _ in heard] == [b"%d" % number for number in range(BURST + 44)]


@pytest.mark.parametrize("size", [0, 1, 1232, 9000, 65_000])
async def test_a_datagram_of_any_size_is_one_datagram(bench: Bench, size: int) -> None:
    bench.start()
    bench.peers[0].send(b"x" * size)
    ((data, path),) = await bench.hears(1)
    assert len(data) == size
    bench.sockets.send([(data, path)])
    assert len(bench.peers[0].recv(70_000)) == size


async def test_what_the_kernel_does_not_take_is_counted(bench: Bench) -> None:
    """And raises nothing: retransmission makes up for it."""
    bench.sockets.send([(b"x" * 70_000, Path(0, bench.peers[0].getsockname()))])
    bench.sockets.send([(b"x", Path(0, ("255.255.255.255", 1)))])
    assert bench.sockets.unsent == 2


async def test_answers_to_both_families_may_be_mixed(bench: Bench) -> None:
    """Each socket sends its own, in their order, with what cannot be sent in between."""
    bench.start()
    for peer in bench.peers:
        peer.send(b"x")
    first, second = (path for _, path in sorted(await bench.hears(2), key=lambda one: one[1]))
    mixed = [(b"%d" % n, (first, second)[n % 2]) for n in range(8)]
    mixed.insert(4, (bytes(70_000), first))
    bench.sockets.send(mixed)
    assert [bench.peers[0].recv(100) for _ in range(4)] == [b"0", b"2", b"4", b"6"]
    assert [bench.peers[1].recv(100) for _ in range(4)] == [b"1", b"3", b"5", b"7"]
    assert bench.sockets.unsent == 1


async def test_what_the_kernel_drops_is_told_for_each_socket(bench: Bench) -> None:
    """Room for one page: the first few fit."""
    count = 100_000
    peer = bench.peers[1]
    for _ in range(count):
        peer.send(bytes(1000))
        if bench.sockets.dropped()[bench.addresses[1]]:
            break
    assert bench.sockets.dropped() == {bench.addresses[0]: 0, bench.addresses[1]: 1}


@pytest.mark.parametrize("listen", [IPV4, IPV6])
def test_a_port_is_shared_by_processes(listen: str) -> None:
    """Each peer by its address belongs to one of them; nobody else gets in."""
    sockets = Sockets([listen])
    (address,) = sockets.open()
    shares = sockets.share(3)
    assert [len(share) for share in shares] == [1, 1, 1]
    bound = [share[0] for share in shares]
    assert len({one.getsockname() for one in bound}) == 1
    heard = []
    for _ in range(60):
        with socket.socket(bound[0].family, socket.SOCK_DGRAM) as peer:
            for _ in range(2):
                peer.sendto(b"x", bound[0].getsockname())
            heard += [number for number, one in enumerate(bound) for _ in _waiting(one)]
    assert set(heard) == {0, 1, 2}
    assert heard[::2] == heard[1::2]
    with pytest.raises(ConfigError, match="another gateway"):
        Sockets([address]).open()
    worker = Sockets([])
    assert worker.open(bound[1:2]) == [address]
    worker.close()
    bound[2].close()
    sockets.close()


def test_what_goes_to_everybody_is_not_heard() -> None:
    """Every host is in the group of all hosts, and a wildcard address would take it all."""
    sockets = Sockets(["0.0.0.0:0", "[::]:0"])
    addresses = sockets.open()
    ((one, six),) = sockets.share(1)
    port = int(addresses[0].rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        loopback = socket.inet_aton("127.0.0.1")
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        peer.sendto(b"all", ("224.0.0.1", port))
        peer.sendto(b"one", ("127.0.0.1", port))
    assert list(_waiting(one)) == [b"one"]
    # The loopback has no such groups in IPv6.
    assert six.getsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL) == 0
    sockets.close()


async def test_the_path_of_a_peer_that_is_kept_is_the_same_one(bench: Bench) -> None:
    """Of one socket only; after closing there is nothing to keep."""
    bench.start()
    for peer in bench.peers:
        peer.send(b"x")
    paths = [path for _, path in await bench.hears(2)]
    for path in paths:
        bench.sockets.keep(path)
    for peer in bench.peers:
        peer.send(b"y")
    kept = [path for _, path in (await bench.hears(4))[2:]]
    assert {id(path) for path in kept} == {id(path) for path in paths}
    bench.sockets.forget(paths[0])
    bench.sockets.close()
    bench.sockets.forget(paths[1])
    bench.sockets.keep(paths[1])


def _waiting(one: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield one.recv(100)


def small_buffers() -> str:
    """What a start without privileges logs, in a process of its own."""
    program = """
import asyncio, logging, os
from gateway.clock import SystemClock
from gateway.ingress.udp import Sockets
logging.basicConfig()
os.getuid() or os.setuid(65534)
async def start():
    sockets = Sockets(["127.0.0.1:0", "[::1]:0"])
    sockets.open()
    sockets.start(print, SystemClock())
    sockets.close()
asyncio.run(start())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stderr


def test_a_small_receive_buffer_is_told_once_with_the_way_to_mend_it() -> None:
    told = small_buffers()
    with open("/proc/sys/net/core/rmem_max") as file:
        allowed = int(file.read())
    if allowed >= RECEIVE_BUFFER:
        assert told == ""
    else:
        assert told.count("WARNING") == 1
        assert f"gives a socket {allowed} bytes" in told
        assert f"`sysctl -w net.core.rmem_max={RECEIVE_BUFFER}`" in told


async def test_a_peer_that_has_gone_disturbs_nobody(bench: Bench) -> None:
    bench.start()
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind(("127.0.0.1", 0))
    address = gone.getsockname()
    gone.close()
    for _ in range(3):
        bench.sockets.send([(b"x", Path(0, address))])
        bench.peers[0].send(b"y")
    assert len(await bench.hears(3)) == 3


async def test_after_closing_nothing_comes_or_goes(bench: Bench) -> None:
    bench.start()
    bench.peers[0].send(b"before")
    ((_, path),) = await bench.hears(1)
    bench.peers[0].send(b"waiting")
    bench.sockets.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(bench.bursts) == 1
    bench.sockets.send([(b"late", path)])  # a commit may call back while the gateway stops
    assert bench.sockets.unsent == 1
    bench.sockets.close()
    again = Sockets([bench.addresses[0]])
    assert again.open() == [bench.addresses[0]]  # the port is free
    again.close()


def test_sockets_can_be_opened_without_a_loop() -> None:
    """As `check` does, to see whether the ports are free."""
    sockets = Sockets([IPV4])
    (address,) = sockets.open()
    assert address.startswith("127.0.0.1:")
    sockets.close()


def test_every_place_that_cannot_be_bound_is_named(bench: Bench) -> None:
    """And none of the others stays open."""
    taken = bench.addresses[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConfigError) as caught:
        Sockets([taken, free, "192.0.2.1:5684", "[::2:99999", "no.such.host.invalid:1"]).open()
    assert len(caught.value.problems) == 4
    for place, problem in zip(
        (taken, "192.0.2.1:5684", "[::2:99999", "no.such.host.invalid:1"),
        caught.value.problems,
        strict=True,
    ):
        assert problem.startswith(f"[coap] listen: cannot bind {place!r} (")
    again = Sockets([free])
    assert again.open() == [free]
    again.close()
