"""Whose handshakes they are: hosts, the networks that they are in, and how often they have failed.

An address can be had cheaply, a network less so. A host is one IPv4 address, or an IPv6 /64, which
is what one link has and a single machine may use as it likes (RFC 7934). Yet a ward may be one such
host: behind a router that translates addresses, or all on one link. So nothing is counted against a
host that would shut its other nodes out for good.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dtls.association import Path

FAILURES: Final = 64
"""Handshakes of a host that may fail at once: a ward whose nodes all have old keys."""

FAILURES_PER_S: Final = 16.0
"""And from then on. 0.5 % of a core; a node behind the same router gets one of these turns."""

_TURN_S: Final = 1.0 / FAILURES_PER_S

HOSTS: Final = 1024
"""Whose failures are remembered; about 200 bytes each."""


class _Bucket(NamedTuple):
    tokens: float
    since: float
    """Monotonic seconds of the last failure, when ``tokens`` were left."""
    turn: float
    """When the host may begin another handshake, whatever is left."""


class Networks(NamedTuple):
    """An address and what it lies in, the widest first."""

    site: str
    """IPv4 /24, IPv6 /48."""
    host: str
    """IPv4 /32, IPv6 /64."""
    address: str


def networks(address: str) -> Networks:
    """address: as the socket prints it, without a zone."""
    if ":" not in address:
        return Networks(address.rpartition(".")[0], address, address)
    number = int(IPv6Address(address))
    return Networks(f"{number >> 80:x}/48", f"{number >> 64:x}/64", address)


def answerable(address: str, port: int) -> bool:
    """Whether this may be one peer's address: not a group's (RFC 1112 section 4, RFC 4291 section
    2.7), not everybody's or nobody's, and a port (RFC 768). A network's broadcast address the
    kernel knows."""
    if ":" in address:
        group = address.startswith("ff") and address.index(":") == 4
        return bool(port) and not group and address != "::"
    return bool(port) and 0 < int(address.partition(".")[0]) < 224


def oldest_of_the_busiest(waiting: Iterable[tuple[Path, Networks]]) -> Path:
    """Who makes room: the oldest of the busiest address, in the busiest host of the busiest site.

    So a host with many ports, or a network with many hosts, pushes out its own and not the nodes.
    waiting: at least one, oldest first.
    """
    left = list(waiting)
    for place in range(len(Networks._fields)):
        ((most, _),) = Counter([within[place] for _, within in left]).most_common(1)
        left = [one for one in left if one[1][place] == most]
    return left[0][0]


class Failures:
    """A token bucket for each host whose handshakes fail: whoever has none left has to take turns.

    Failures count, not attempts: as many nodes as there are may come at once after a power cut.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def add(self, host: str, now: float) -> None:
        """A handshake of this host has failed."""
        tokens = max(0.0, self._tokens(host, now) - 1.0)
        known = self._buckets.pop(host, None)
        if known is None and len(self._buckets) >= HOSTS:
            # Forgetting a bucket fills it: nobody is refused for it.
            del self._buckets[next(iter(self._buckets))]
        self._buckets[host] = _Bucket(tokens, now, (now + _TURN_S) if known is None else known.turn)

    def may_begin(self, host: str, under_way: int, now: float) -> bool:
        """Whether a new handshake of this host may begin now. Those ``under_way`` may fail, too.

        FAILURES_PER_S may always: with 64 handshakes that it leaves half open, and a failure now
        and then, one machine would shut out all others of its host.
        """
        bucket = self._buckets.get(host)
        if bucket is None:
            return True
        if now < bucket.turn and self._tokens(host, now) < 1.0 + under_way:
            return False
        self._buckets[host] = bucket._replace(turn=now + _TURN_S)
        return True

    def sweep(self, now: float) -> None:
        """Forget those who may fail as often as anybody again."""
        full = now - FAILURES / FAILURES_PER_S
        for host in [host for host, one in self._buckets.items() if one.since < full]:
            del self._buckets[host]

    def __len__(self) -> int:
        return len(self._buckets)

    def _tokens(self, host: str, now: float) -> float:
        bucket = self._buckets.get(host)
        if bucket is None:
            return float(FAILURES)
        return min(float(FAILURES), bucket.tokens + (now - bucket.since) * FAILURES_PER_S)
