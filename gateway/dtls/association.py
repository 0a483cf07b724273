"""An established association: a peer, its keys and its counters.

This is what a node is to the rest of the gateway (RFC 7252 section 9.1.1): not an address but the
security association, known by a number that never comes twice. It holds a few hundred bytes: no
OpenSSL object, no buffer, no timer. It is written so that it can be saved (keys, counters) and so
that its address may change once a Connection ID names it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    EPOCH_1,
    HANDSHAKE,
    HEADER,
    HEADER_LENGTH,
    split_untrusted,
)
from gateway.endpoint import Endpoint
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from gateway.dtls.records import Opener, Protector

_unpack_header: Final = HEADER.unpack_from

_HELLO_REQUEST: Final = 0
_CLIENT_HELLO: Final = 1
_FINISHED: Final = 20
_CLOSE_NOTIFY: Final = bytes((1, 0))
_NO_RENEGOTIATION: Final = bytes((1, 100))
_FATAL: Final = 2
_QUICKEST_REPEAT_S: Final = 0.5
_RECORDS: Final = 16
"""Looked at in one datagram: 64 KiB of empty ones would cost milliseconds each."""


Sockaddr = tuple[str, int] | tuple[str, int, int, int]
"""What the socket module calls an address: IPv4 or IPv6."""


class Path(NamedTuple):
    """Where datagrams come from and go to."""

    listener: int
    """Which of our sockets."""
    address: Sockaddr


class Association:
    """One peer. Plaintexts out of :meth:`receive_untrusted`; datagrams out of :meth:`protect`."""

    __slots__ = (
        "_flight_sent",
        "_last_flight",
        "_opener",
        "_protector",
        "closed",
        "endpoint",
        "failed_records",
        "heard",
        "path",
        "suite",
    )

    def __init__(
        self,
        *,
        number: int,
        device: str,
        suite: str,
        path: Path,
        opener: Opener,
        protector: Protector,
        last_flight: list[bytes],
        now: float,
    ) -> None:
        self.endpoint = Endpoint(number, device)
        self.suite = suite
        self.path = path
        self.heard = now
        """Monotonic seconds of the last authentic record."""
        self.closed = False
        self.failed_records = 0
        self._opener = opener
        self._protector = protector
        self._last_flight = last_flight
        self._flight_sent = now

    def receive_untrusted(self, datagram: bytes, now: float) -> list[bytes]:
        """The application data in one datagram, a plaintext a record, in order.

        What cannot be authenticated is counted and otherwise as if it had never come (RFC 6347
        section 4.1.2.7); nothing ends an association but an authentic alert. After this look at
        ``closed``, and send :meth:`replies`.
        """
        if len(datagram) < HEADER_LENGTH:
            return []
        content_type, version, counter, length = _unpack_header(datagram)
        if content_type != APPLICATION_DATA or length != len(datagram) - HEADER_LENGTH:
            return self._receive_many_untrusted(datagram, now)
        # One whole record is what every node sends.
        if counter >> 48 != EPOCH_1:
            return []
        try:
            plaintext = self._opener.open_parsed_untrusted(
                datagram, content_type, version, counter, length
            )
        except DtlsError:
            self.failed_records += 1
            return []
        self.heard = now
        return [plaintext]

    def _receive_many_untrusted(self, datagram: bytes, now: float) -> list[bytes]:
        plaintexts = []
        for record in islice(split_untrusted(datagram), _RECORDS):
            content_type, version, counter, length = _unpack_header(record)
            if counter >> 48 != EPOCH_1 or content_type not in (APPLICATION_DATA, ALERT):
                continue
            try:
                plaintext = self._opener.open_parsed_untrusted(
                    record, content_type, version, counter, length
                )
            except DtlsError:
                self.failed_records += 1
                continue
            self.heard = now
            if content_type == APPLICATION_DATA:
                plaintexts.append(plaintext)
            else:
                self._alert(plaintext)
        return plaintexts

    def replies(self, datagram: bytes, now: float) -> list[bytes]:
        """What the DTLS layer itself owes the peer for this datagram.

        A repeated Finished means that our last flight was lost: it is sent again (RFC 6347 section
        4.2.4). A hello inside the association asks to renegotiate: refused.
        """
        for record in islice(split_untrusted(datagram), _RECORDS):
            content_type, _, counter, _ = _unpack_header(record)
            if content_type != HANDSHAKE or counter >> 48 != EPOCH_1:
                continue
            try:
                # Not the window's business: a peer may repeat the very same record.
                message = self._opener.authenticate_untrusted(record)
            except DtlsError:
                self.failed_records += 1
                continue
            if not message or now - self._flight_sent < _QUICKEST_REPEAT_S:
                continue
            self._flight_sent = now
            if message[0] == _FINISHED:
                return list(self._last_flight)
            if message[0] in (_CLIENT_HELLO, _HELLO_REQUEST):
                return [self._protector.protect(ALERT, _NO_RENEGOTIATION)]
        return []

    def opens(self, record: bytes) -> bool:
        """Whether this record was protected with the peer's key. Changes nothing."""
        try:
            self._opener.authenticate_untrusted(record)
        except DtlsError:
            return False
        return True

    def protect(self, plaintext: bytes) -> bytes:
        """One datagram that carries ``plaintext``."""
        return self._protector.protect(APPLICATION_DATA, plaintext)

    def close(self) -> bytes:
        """close_notify; the association is closed then."""
        self.closed = True
        return self._protector.protect(ALERT, _CLOSE_NOTIFY)

    def _alert(self, alert: bytes) -> None:
        if len(alert) == 2 and (alert[0] == _FATAL or alert == _CLOSE_NOTIFY):
            self.closed = True
