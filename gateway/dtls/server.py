"""The table of associations: which peer a datagram belongs to (RFC 6347 section 4.2).

Sans-IO. ``receive`` takes a datagram and gives plaintexts; what the DTLS layer itself wants sent
collects in ``outgoing``, what it did in ``events``. The rules:

- No state before proof: a hello without a valid cookie costs one answer that is smaller than it.
- A new hello from a known address opens a second handshake beside the old association, which
  lives until the new one has finished (RFC 6347 section 4.2.8): a spoofer on the path cannot evict
  a node.
- Half-open handshakes are capped, the oldest of the busiest host goes, and end at a deadline. A
  host whose handshakes fail too often has to wait (hosts.py).
  Associations are capped, the longest silent goes; one device has at most a few, so it cannot push
  others out.
- Nothing but an authentic alert, silence or the operator ends an association.
- Timers are swept with ``now``; there is none per peer.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.dtls import cookie
from gateway.dtls.handshake import DEADLINE_S, Handshake, HandshakeOver
from gateway.dtls.hosts import Failures, Networks, answerable, networks, oldest_of_the_busiest
from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    DTLS_1_0,
    HANDSHAKE,
    HEADER,
    split_untrusted,
)
from gateway.dtls.refused import DECRYPT_ERROR, Refused, reason
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dtls.association import Association, Path
    from gateway.dtls.engines import Engine

HALF_OPEN: Final = 256
"""Handshakes under way at once, while OpenSSL holds 65 to 110 KiB for each: 28 MiB at worst, and at
200 ms a round trip 600 new nodes a second."""

EVENTS: Final = 4096
"""Kept for the caller beyond one for each association: all may end in one sweep, and what the
caller does not hear of it keeps."""
_PROTOCOL_VERSION: Final = bytes((2, 70))
"""fatal, protocol_version (RFC 5246 section 7.2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Limits of the DTLS side."""

    associations: int = 4096
    """Associations held at once; the longest silent one makes room. 2 to 4 KiB each."""
    associations_per_device: int = 4
    """A device that restarts on new ports leaves old ones behind; the oldest goes."""
    idle_timeout_s: float = 86_400.0
    """An association silent for so long is forgotten, and its node shakes hands again."""
    mtu: int = 1232
    """Largest UDP payload sent in a handshake: what any IPv6 path carries."""


class Change(Enum):
    """What happened to an association."""

    OPENED = "opened"
    CLOSED = "closed"


class Event(NamedTuple):
    """``association`` was opened or closed; ``why`` in a word for logs and metrics."""

    change: Change
    association: Association
    why: str


class EngineFactory(Protocol):
    """Makes the server side of one handshake (engines/)."""

    def engine(self, mtu: int) -> Engine: ...


class _Pending(NamedTuple):
    handshake: Handshake
    hello: bytes
    networks: Networks


class Server:
    """All associations of the gateway, over all its sockets.

    first_number: start of the association numbers; the caller makes sure that no earlier run of
    the gateway came so far.
    """

    def __init__(
        self,
        config: Config,
        engines: EngineFactory,
        cookies: cookie.Cookies,
        first_number: int,
    ) -> None:
        self._config = config
        self._engines = engines
        self._cookies = cookies
        self._next_number = first_number
        self._associations: dict[Path, Association] = {}
        self._pending: dict[Path, _Pending] = {}
        self._by_device: dict[str, list[Association]] = {}
        self.outgoing: list[tuple[bytes, Path]] = []
        """Datagrams of the DTLS layer itself; the caller sends and clears them."""
        self.events: deque[Event] = deque(maxlen=EVENTS + config.associations)
        self.counts: Counter[str] = Counter()
        """How often what happened: cookies, handshakes, drops by cause."""
        self.refused: dict[str, Refused] = {}
        """By reason, of which there are a few."""
        self._failures = Failures()

    def receive(
        self, datagram: bytes, path: Path, now: float
    ) -> tuple[Association, Sequence[bytes]] | None:
        """The association and the plaintexts of one datagram. Does not raise for any bytes."""
        association = self._associations.get(path)
        if association is not None and datagram and datagram[0] == APPLICATION_DATA:
            plaintexts = association.receive_untrusted(datagram, now)
            if plaintexts or path not in self._pending:
                return association, plaintexts
        try:
            return self._receive_other_untrusted(association, datagram, path, now)
        except cookie.UnsupportedVersionError:
            self.counts["unsupported_version"] += 1
            # 15 bytes for a hello of at least 54: no use to an amplifier.
            alert = HEADER.pack(ALERT, DTLS_1_0, 0, 2) + _PROTOCOL_VERSION
            self.outgoing.append((alert, path))
        except DtlsError:
            self.counts["dropped"] += 1
        return None

    def _receive_other_untrusted(
        self, association: Association | None, datagram: bytes, path: Path, now: float
    ) -> tuple[Association, Sequence[bytes]] | None:
        if cookie.is_client_hello_untrusted(datagram):
            self._hello_untrusted(datagram, path, now)
            return None
        pending = self._pending.get(path)
        if pending is not None:
            first = next(split_untrusted(datagram), b"")
            if association is None or not association.opens(first):
                return self._advance(pending.handshake, datagram, path, now)
        if association is None or not datagram:
            raise DtlsError("no association, or nothing in the datagram")
        plaintexts = association.receive_untrusted(datagram, now)
        if association.closed:
            self._remove(association, "closed by the device")
        elif datagram[0] in (HANDSHAKE, CHANGE_CIPHER_SPEC):
            self._send(association.replies(datagram, now), path)
        return association, plaintexts

    def _hello_untrusted(self, datagram: bytes, path: Path, now: float) -> None:
        if not answerable(path.address[0], path.address[1]):
            raise DtlsError("nobody can be answered there")
        hello = cookie.decode_client_hello_untrusted(datagram)
        address = f"{path.listener} {path.address}".encode()
        if not self._cookies.valid(hello, address, now):
            self.counts["cookie_challenges"] += 1
            self.outgoing.append((self._cookies.challenge(hello, address, now), path))
            return
        pending = self._pending.get(path)
        if pending is not None and pending.hello == hello.rest:
            self._send(pending.handshake.repeated(now), path)
            return
        within = networks(path.address[0])
        under_way = sum(one.networks.host == within.host for one in self._pending.values())
        known = path in self._associations
        if not known and not self._failures.may_begin(within.host, under_way, now):
            # No answer: the hello comes again, less and less often.
            self._refuse("too many failures of one host", f"somebody at {path.address[0]}")
            return
        if pending is not None:
            self._give_up(path, now)
        elif len(self._pending) >= HALF_OPEN:
            self.counts["half_open_evicted"] += 1
            busiest = ((at, one.networks) for at, one in self._pending.items())
            self._give_up(oldest_of_the_busiest(busiest), now)
        handshake = Handshake(
            self._engines.engine(self._config.mtu),
            server=True,
            number=hello.record_number,
            mtu=self._config.mtu,
            now=now,
        )
        self._pending[path] = _Pending(handshake, hello.rest, within)
        self._advance(handshake, datagram, path, now)

    def _give_up(self, path: Path, now: float) -> None:
        """Make room. One with a wrong key that has not been told so yet has failed."""
        if self._pending[path].handshake.doubtful():
            self._failed(path, DECRYPT_ERROR, "", now)
        else:
            del self._pending[path]

    def _failed(self, path: Path, alert: int | None, why: str, now: float) -> None:
        pending = self._pending.pop(path)
        self.counts["handshakes_failed"] += 1
        self._failures.add(pending.networks.host, now)
        who = pending.handshake.device() or "somebody"
        because, more = reason(alert, why)
        self._refuse(because, f"{who}{more} at {path.address[0]}")

    def _refuse(self, because: str, last: str) -> None:
        before = self.refused.get(because)
        self.refused[because] = Refused(1 if before is None else before.times + 1, last)

    def _advance(
        self, handshake: Handshake, datagram: bytes, path: Path, now: float
    ) -> tuple[Association, Sequence[bytes]] | None:
        try:
            self._send(handshake.receive_untrusted(datagram, now), path)
        except HandshakeOver as over:
            self._send(over.datagrams, path)
            self._failed(path, over.alert, str(over), now)
            return None
        if not handshake.done():
            return None
        del self._pending[path]
        association = handshake.associate(self._next_number, path, now)
        self._next_number += 1
        self._insert(association)
        early = b"".join(handshake.early)
        return association, association.receive_untrusted(early, now) if early else ()

    def _insert(self, association: Association) -> None:
        old = self._associations.get(association.path)
        if old is not None:
            self._remove(old, "replaced by a new handshake")
        mine = self._by_device.setdefault(association.endpoint.device, [])
        if len(mine) >= self._config.associations_per_device:
            self._remove(min(mine, key=lambda one: one.heard), "too many of one device")
            mine = self._by_device.setdefault(association.endpoint.device, [])
        while len(self._associations) >= self._config.associations:
            longest_silent = min(self._associations.values(), key=lambda one: one.heard)
            self._remove(longest_silent, "table full")
            mine = self._by_device.setdefault(association.endpoint.device, [])
        mine.append(association)
        self._associations[association.path] = association
        self.counts["handshakes_done"] += 1
        self.events.append(Event(Change.OPENED, association, association.suite))

    def _remove(self, association: Association, why: str) -> None:
        del self._associations[association.path]
        device = association.endpoint.device
        self._by_device[device].remove(association)
        if not self._by_device[device]:
            del self._by_device[device]
        association.closed = True
        self.counts["dropped_unauthentic"] += association.failed_records
        self.events.append(Event(Change.CLOSED, association, why))

    def _send(self, datagrams: list[bytes], path: Path) -> None:
        self.outgoing += [(datagram, path) for datagram in datagrams]

    def renew(self, config: Config, engines: EngineFactory) -> None:
        """Other limits, from the next association on, and other credentials for the handshakes that
        begin from now on. Associations that are there go on."""
        self._config, self._engines = config, engines
        self.events = deque(self.events, maxlen=EVENTS + config.associations)

    def get_timer(self, now: float) -> float:
        """When ``sweep`` is due next, in monotonic seconds."""
        timers = [pending.handshake.get_timer() for pending in self._pending.values()]
        return min(timers, default=now + DEADLINE_S)

    def sweep(self, now: float) -> None:
        """Repeat flights, end what is overdue. Call once in a while, at least every second."""
        for path, pending in list(self._pending.items()):
            if now - pending.handshake.started > DEADLINE_S:
                del self._pending[path]
                self.counts["handshakes_timed_out"] += 1
                continue
            try:
                self._send(pending.handshake.handle_timer(now), path)
            except HandshakeOver as over:
                self._send(over.datagrams, path)
                self._failed(path, over.alert, str(over), now)
        self._failures.sweep(now)
        oldest = now - self._config.idle_timeout_s
        for association in [one for one in self._associations.values() if one.heard < oldest]:
            self._remove(association, "idle")

    def close(self, device: str | None, why: str) -> None:
        """End the associations of one device, or of all (None), with close_notify. Handshakes under
        way with its key end too: they would outlive the key's revocation."""
        for path, pending in list(self._pending.items()):
            if device is None or pending.handshake.device() == device:
                del self._pending[path]
        for association in list(self._associations.values()):
            if device is None or association.endpoint.device == device:
                self.end(association, why)

    def end(self, association: Association, why: str) -> None:
        """End one that lives, with close_notify."""
        with suppress(DtlsError):  # no number is left to say it with
            self.outgoing.append((association.close(), association.path))
        self._remove(association, why)

    def associations(self) -> list[Association]:
        """All established ones."""
        return list(self._associations.values())

    def of_device(self, device: str) -> list[Association]:
        """Those of one device, oldest first."""
        return list(self._by_device.get(device, ()))

    def half_open(self) -> int:
        """Handshakes under way."""
        return len(self._pending)

    def unauthentic(self) -> int:
        """Records of associations that failed authentication. They are not limited: a forger could
        shut out a node with that, and each costs a microsecond or two."""
        living = sum(one.failed_records for one in self._associations.values())
        return self.counts["dropped_unauthentic"] + living
