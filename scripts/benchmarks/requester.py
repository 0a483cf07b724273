"""One simulated node: an association, or a plain UDP socket, with requests in flight.

Two ways to be a CoAP client. While everything is answered, a turn is: receive what is there, send
as many requests, protected beforehand, in one call; answers are only counted, and opened and
checked after the window. That costs the generator 3 to 7 us a request, the less the more come at
once. When an answer is overdue, or when the server answers by separate responses, the node becomes
careful: it opens every answer at once and sends what is overdue again as RFC 7252 section 4.2 has
it, in a record of its own.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from packs import TOKEN_BYTES

from gateway.coap import message
from gateway.coap.numbers import ACK_TIMEOUT, MAX_RETRANSMIT, Code, Type
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient
from gateway.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "PSK-AES128-CCM8"
_MTU = 1232
_UDP_SEGMENT = 103
"""Of udp(7): several datagrams of one length in one call. Linux 4.18."""
_IN_ONE_CALL = 8
_LARGEST = 2048


class Answer(NamedTuple):
    """What came of one request. Times: seconds of ``time.perf_counter``."""

    request: int
    sent: float
    came: float
    code: int


class Requester:
    """See the module. ``finished`` before ``fill``: connect, prepare, fill, then turn and look."""

    def __init__(self, number: int, address: tuple[str, int], source: str = "") -> None:
        """source: the node's own IP address, unless it does not matter."""
        self.number = number
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source, 0))
        self.socket.connect(address)
        self.in_flight = 0
        """To be kept in flight; 0: nothing is sent but by :meth:`send`."""
        self.resent = 0
        self.careful = False
        self.dry = False
        """There was nothing left to send."""
        self._client: Client | None = None
        self._plain: list[bytes] = []
        self._wire = memoryview(b"")
        self._each = 0
        self._sent = 0
        self._sends: list[tuple[float, int]] = []  # time, requests sent so far
        self._received: list[bytes] = []
        self._receives: list[tuple[float, int]] = []  # time, answers received so far
        self._marks: deque[tuple[float, int]] = deque()
        # Of a careful node.
        self._waiting: dict[int, list[float]] = {}  # request: when to send again, how often it was
        self._first_sent: dict[int, float] = {}
        self.answers: list[Answer] = []

    # -- before the window

    def connect(self, key: bytes) -> None:
        """Shake hands. Raises DtlsError."""
        engines = OpensslClient(f"bench-{self.number}".encode(), key, [SUITE])
        client = Client(engines, mtu=_MTU, now=time.monotonic())
        while client.association is None:
            self._flush(client)
            timer = client.get_timer()
            self.socket.settimeout(max(0.01, (timer or 0) - time.monotonic()))
            try:
                client.receive(self.socket.recv(_LARGEST), time.monotonic())
            except TimeoutError:
                client.handle_timer(time.monotonic())
        self._flush(client)
        self._client = client

    def _flush(self, client: Client) -> None:
        for datagram in client.outgoing:
            self.socket.send(datagram)
        client.outgoing = []

    def prepare(self, requests: Iterator[bytes], *, careful: bool) -> None:
        """Protect every request."""
        self._plain = list(requests)
        self.careful = careful or self._client is None
        self.socket.setblocking(False)
        if self.careful or not self._plain:
            return
        wire = [self._protect(one) for one in self._plain]
        self._each = len(wire[0])
        self._wire = memoryview(b"".join(wire))
        self.socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, self._each)

    def _protect(self, plaintext: bytes) -> bytes:
        if self._client is None:
            return plaintext
        assert self._client.association is not None
        return self._client.association.protect(plaintext)

    @property
    def wire_bytes(self) -> int:
        """Of one request, as a UDP payload."""
        return self._each or len(self._protect(self._plain[0]))

    # -- in the window

    def send(self, count: int, now: float) -> None:
        """The next requests, or as many as there are."""
        first = self._sent
        count = min(count, len(self._plain) - first)
        if count <= 0:
            self.dry = True
            return
        if self.careful:
            for index in range(first, first + count):
                self._send_one(index, now)
        else:
            each = self._each
            for at in range(first, first + count, _IN_ONE_CALL):
                end = min(at + _IN_ONE_CALL, first + count)
                self.socket.send(self._wire[at * each : end * each])
            self._sends.append((now, first + count))
        self._sent = first + count

    def turn(self, now: float) -> int:
        """The socket is readable: answers that came. Sends as many, if some are to be in flight."""
        if self.careful:
            before = len(self.answers)
            self._take(now)
            came = len(self.answers) - before
            lacking = self.in_flight - len(self._waiting)
        else:
            received, receive = self._received, self.socket.recv
            before = len(received)
            try:
                while True:
                    received.append(receive(_LARGEST))
            except BlockingIOError:
                pass
            self._receives.append((now, len(received)))
            came = len(received) - before
            lacking = came if self.in_flight else 0
        if lacking > 0:
            self.send(lacking, now)
        return came

    def look(self, now: float) -> None:
        """Call about four times a second: what is overdue is sent again."""
        if self.careful:
            for index, (due, tries) in list(self._waiting.items()):
                if due > now:
                    continue
                if tries >= MAX_RETRANSMIT:
                    del self._waiting[index]  # given up
                else:
                    self.resent += 1
                    self._send_one(index, now, int(tries) + 1)
            if self.in_flight > len(self._waiting):
                self.send(self.in_flight - len(self._waiting), now)
            return
        marks = self._marks
        marks.append((now, self._sent))
        while marks and marks[0][0] <= now - ACK_TIMEOUT:
            if marks.popleft()[1] > len(self._received):
                self._become_careful(now)
                return

    def idle(self) -> bool:
        """Nothing is waited for."""
        return not self._waiting if self.careful else len(self._received) >= self._sent

    def _become_careful(self, now: float) -> None:
        self.settle()
        self.careful = True
        # A buffer to be cut: what is sent from now on goes one by one.
        self.socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
        answered = {one.request for one in self.answers}
        times = _times(self._sends)
        for index in range(self._sent):
            sent = times[index]
            if index not in answered:
                self._first_sent[index] = sent
                self._waiting[index] = [max(now, sent + ACK_TIMEOUT), 0]
        self.look(now)

    def _send_one(self, index: int, now: float, tries: int = 0) -> None:
        self._first_sent.setdefault(index, now)
        # Spread over half an interval by the number: the same at each run.
        wait = ACK_TIMEOUT * (1 + (self.number + index) % 16 / 32) * 2**tries
        self._waiting[index] = [now + wait, tries]
        self.socket.send(self._protect(self._plain[index]))

    def _take(self, now: float) -> None:
        try:
            while True:
                self._hear(self.socket.recv(_LARGEST), now)
        except BlockingIOError:
            pass

    def _hear(self, datagram: bytes, now: float) -> None:
        for plaintext in self._open(datagram):
            try:
                got = message.decode_untrusted(plaintext)
            except PeerError:
                continue
            if got.code == Code.EMPTY:
                if got.type is Type.ACK and got.mid in self._waiting:
                    self._waiting[got.mid][0] = float("inf")  # the response comes separately
                continue
            if got.type is Type.CON:
                self.socket.send(self._protect(message.empty_ack(got.mid)))
            index = int.from_bytes(got.token, "big")
            if self._waiting.pop(index, None) is not None:
                self.answers.append(Answer(index, self._first_sent[index], now, got.code))

    def _open(self, datagram: bytes) -> list[bytes]:
        if self._client is None:
            return [datagram]
        try:
            return self._client.receive(datagram, time.monotonic())
        except PeerError as error:
            raise SystemExit(f"bench-{self.number}: {error}") from None

    # -- after the window

    def settle(self) -> None:
        """Open and check the answers that were only counted; then ``answers`` has them all."""
        sent, came = _times(self._sends), _times(self._receives)
        seen = set()
        for datagram, at in zip(self._received, came, strict=True):
            for plaintext in self._open(datagram):
                got = message.decode_untrusted(plaintext)
                index = int.from_bytes(got.token, "big")
                if len(got.token) == TOKEN_BYTES and index not in seen and index < self._sent:
                    seen.add(index)
                    self.answers.append(Answer(index, sent[index], at, got.code))
        self._received, self._receives = [], []

    @property
    def left(self) -> int:
        """Requests that have not been sent."""
        return len(self._plain) - self._sent

    @property
    def sent(self) -> int:
        """Requests sent so far, each counted once."""
        return self._sent

    def close(self) -> None:
        """Say goodbye, so that the server may forget."""
        if self._client is not None and self._client.association is not None:
            self.socket.send(self._client.association.close())
        self.socket.close()


def _times(steps: list[tuple[float, int]]) -> list[float]:
    """A time for each: ``(at, so_far)`` to one ``at`` an item."""
    times: list[float] = []
    for at, so_far in steps:
        times += [at] * (so_far - len(times))
    return times
