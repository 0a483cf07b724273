"""One handshake in progress, either side (RFC 6347 section 4.2): numbers, timers, hand-over.

The engine knows TLS; this knows datagrams and time. It cuts flights, repeats the last one until the
peer moves on, checks that the peer's Finished was made with the key that we expect, keeps records
that overtook the handshake, and at the end turns everything into an :class:`Association`.

Why the Finished is checked here: OpenSSL drops a Finished that fails its MAC without a word, and
the peer of a wrong key waits for a minute and a half. The record keys are known as soon as
ClientKeyExchange has been processed, so we can tell a wrong key from a reordered datagram and
answer with a fatal alert, the same for an unknown identity and a wrong key (RFC 4279 section 2).
Not at once: anybody can send a record that fails, from an address that is not theirs. The node's
own Finished, if there is one, is on its way then, and has a second to arrive.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.dtls import flights
from gateway.dtls.association import Association
from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    DTLS_1_2,
    HANDSHAKE,
    HEADER,
    HEADER_LENGTH,
    Opener,
    Protector,
    split_untrusted,
)
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from gateway.dtls.association import Path
    from gateway.dtls.engines import Engine
    from gateway.dtls.records import RecordKeys

FIRST_RETRANSMIT_S: Final = 1.0
"""RFC 6347 section 4.2.4.1. RFC 7925 section 11 asks for 9 s on slow radios, but a handshake must
end within the deadline here, and a repetition costs less than a node that starts again."""

LONGEST_RETRANSMIT_S: Final = 4.0
"""RFC 6347 section 4.2.4.1 would go on doubling up to 60 s: four repetitions before the deadline.
With 20 % of datagrams lost each way 1 handshake in 100 missed it then, and with eight repetitions
none of 1,000. 50 nodes that repeat a hello every 4 s take a tenth of a radio of 250 kbit/s.
"""

DEADLINE_S: Final = 30.0
"""A handshake that takes longer is given up: what is half open costs 65 to 110 KiB."""

_QUICKEST_REPEAT_S: Final = 0.5
_RECORDS: Final = 16
"""Of a datagram; a client's flight has three, or five with a certificate. OpenSSL looks at
each, and 64 KiB of empty ones would hold up everybody."""

_LONGEST_MESSAGE: Final = 4096
"""A chain of two certificates takes half of it. OpenSSL keeps 100 KB, of ten messages ahead at
once: a megabyte for each peer that has a cookie and nothing else."""

_DOUBT_S: Final = 1.0
"""From a Finished that fails authentication to the alert, unless one that does not comes first."""

_MESSAGE_HEADER: Final = 12
_EARLY_RECORDS: Final = 4
_HELD_RECORDS: Final = 2
_LONGEST_KEPT: Final = 4096
"""Bytes of a record that is kept for later: whoever has a cookie may send such, up to 64 KiB each.
What is lost by it comes again."""
_FED: Final = 16
"""Records of the peer's key before the handshake is done: its Finished, and alerts. OpenSSL would
keep a hundred of 16 KiB until the ChangeCipherSpec comes."""
_DECRYPT_ERROR: Final = bytes((2, 51))
"""fatal, decrypt_error (RFC 5246 section 7.2)."""


class HandshakeOver(DtlsError):
    """The handshake failed. ``datagrams`` tells the peer why, if it may know; ``alert`` is the
    description of the alert in them (RFC 5246 section 7.2), None without."""

    kind = "handshake"

    def __init__(self, why: str, datagrams: list[bytes]) -> None:
        super().__init__(why)
        self.datagrams = datagrams
        records = [one for datagram in datagrams for one in split_untrusted(datagram)]
        alerts = [one[HEADER_LENGTH + 1] for one in records if _is_clear_alert(one)]
        self.alert = alerts[-1] if alerts else None


class Handshake:
    """Drives one engine. After each call send what was returned, in order.

    engine: fresh; server: which side we are; number: of the ClientHello that a server accepted, 0
    for a client; mtu: largest UDP payload.
    """

    def __init__(self, engine: Engine, *, server: bool, number: int, mtu: int, now: float) -> None:
        self._engine = engine
        self._server = server
        self._mtu = mtu
        self._stamper = flights.Stamper(number)
        self._flight: list[bytes] = []
        self._keys: RecordKeys | None = None
        self._opener: Opener | None = None
        self._held: list[bytes] = []
        self._consumed: list[int] = []
        self._protected = -1
        self._interval = FIRST_RETRANSMIT_S
        self._timer = now + FIRST_RETRANSMIT_S
        self._sent = now
        self._doubt: float | None = None
        self._heard = -1
        self._answered = -1
        """The peer's newest message (message_seq), and the newest when our last flight was made."""
        self.started = now
        self.early: list[bytes] = []
        """Application records that overtook the end of the handshake; open them afterwards."""

    def start(self, now: float) -> list[bytes]:
        """A client's first flight."""
        self._engine.feed(b"")
        return self._collect(now)

    def receive_untrusted(self, datagram: bytes, now: float) -> list[bytes]:
        """Take in one datagram; the datagrams to send.

        Raises HandshakeOver when it has failed, after which this object is of no use.
        """
        out: list[bytes] = []
        clear: list[bytes] = []
        for record in islice(split_untrusted(datagram), _RECORDS):
            content_type, protected = record[0], record[3:5] == b"\0\1"
            if protected and len(record) > _LONGEST_KEPT:
                continue
            if content_type == APPLICATION_DATA:
                if protected and len(self.early) < _EARLY_RECORDS:
                    self.early.append(record)
            elif protected:
                # The newest: what a forger sends ahead must not keep the node's own out.
                self._held = [*self._held[1 - _HELD_RECORDS :], record]
            elif record[3:5] == b"\0\0" and (
                content_type in (CHANGE_CIPHER_SPEC, ALERT)
                or (content_type == HANDSHAKE and _longest_message(record) <= _LONGEST_MESSAGE)
            ):
                clear.append(record)
        if clear:
            newest = max(map(_newest_message, clear))
            # Together: every call of OpenSSL costs 3 us, however little there is in it.
            out += self._feed(b"".join(clear), now)
            if not out and 0 <= newest <= self._answered:
                # The peer's last flight once more: ours was lost (RFC 6347 section 4.2.4).
                out += self.repeated(now)
            self._heard = max(self._heard, newest)
            if out:
                self._answered = self._heard
        if self._held:
            out += self._release(now)
        return out

    def repeated(self, now: float) -> list[bytes]:
        """The peer has repeated its flight, so ours was lost: send it again, but not too often."""
        if now - self._sent < _QUICKEST_REPEAT_S:
            return []
        return self._repeat(now)

    def get_timer(self) -> float:
        """When ``handle_timer`` wants to be called, in monotonic seconds."""
        return self._timer if self._doubt is None else min(self._timer, self._doubt + _DOUBT_S)

    def handle_timer(self, now: float) -> list[bytes]:
        """Send the last flight again, with doubled patience.

        Raises HandshakeOver when the peer has shown a wrong key, and had time to show a right one.
        """
        if self._doubt is not None and now >= self._doubt + _DOUBT_S:
            alert = HEADER.pack(ALERT, DTLS_1_2, 0, len(_DECRYPT_ERROR)) + _DECRYPT_ERROR
            raise HandshakeOver("unknown identity or wrong key", self._stamper.stamp([alert]))
        if now < self._timer:
            return []
        self._interval = min(2 * self._interval, LONGEST_RETRANSMIT_S)
        return self._repeat(now)

    def done(self) -> bool:
        """Whether ``associate`` may be called."""
        return self._engine.done()

    def doubtful(self) -> bool:
        """Whether a Finished has come that was not made with the key, and no other yet."""
        return self._doubt is not None

    def device(self) -> str | None:
        """Whose key the peer has named, not yet proven; None before that."""
        return self._engine.device()

    def associate(self, number: int, path: Path, now: float) -> Association:
        """The finished association; drop this object then, and OpenSSL's memory with it.

        number: the association's own, never used before.
        """
        opener = self._learn_keys()
        keys = self._keys
        if keys is None or opener is None:
            raise DtlsError("the handshake engine has no keys to hand over")
        for consumed in self._consumed:
            opener.mark_seen(consumed)
        if self._server:
            key, salt = keys.server_key, keys.server_salt
        else:
            key, salt = keys.client_key, keys.client_salt
        return Association(
            number=number,
            device=self._engine.device() or "",
            suite=keys.suite,
            path=path,
            opener=opener,
            protector=Protector(keys.suite, key, salt, self._protected + 1),
            last_flight=flights.pack(self._flight, self._mtu) if self._server else [],
            now=now,
        )

    def _feed(self, records: bytes, now: float) -> list[bytes]:
        try:
            self._engine.feed(records)
        except DtlsError as error:
            raise HandshakeOver(str(error), self._collect(now)) from None
        return self._collect(now)

    def _release(self, now: float) -> list[bytes]:
        """Give held epoch-1 records to the engine once their key can be checked."""
        opener = None
        if self._server:
            opener = self._learn_keys()
            if opener is None:
                return []
        out: list[bytes] = []
        held, self._held = self._held, []
        for record in held:
            if opener is not None and not _authentic(record, opener):
                if self._doubt is None:
                    self._doubt = now
                continue
            if len(self._consumed) >= _FED:
                continue
            self._consumed.append(int.from_bytes(record[5:11], "big"))
            out += self._feed(record, now)
        return out

    def _learn_keys(self) -> Opener | None:
        """What opens the peer's records; None as long as there are no keys.

        They are derived once: a server opens the peer's Finished with them before it is done.
        """
        if self._opener is None:
            keys = self._keys = self._engine.keys()
            if keys is None:
                return None
            if self._server:
                self._opener = Opener(keys.suite, keys.client_key, keys.client_salt)
            else:
                self._opener = Opener(keys.suite, keys.server_key, keys.server_salt)
        return self._opener

    def _collect(self, now: float) -> list[bytes]:
        written = self._engine.flight()
        if not written:
            return []
        stamped = self._stamper.stamp(flights.records(written))
        self._flight = stamped
        self._protected = max(self._protected, flights.highest_protected_number(stamped))
        self._interval = FIRST_RETRANSMIT_S
        self._timer, self._sent = now + self._interval, now
        return flights.pack(stamped, self._mtu)

    def _repeat(self, now: float) -> list[bytes]:
        # New numbers for epoch 0, or the peer may drop the repetition as a replay.
        self._flight = self._stamper.stamp(self._flight)
        self._timer, self._sent = now + self._interval, now
        return flights.pack(self._flight, self._mtu)


def _newest_message(record: bytes) -> int:
    """The largest message number in a record (message_seq, RFC 6347 section 4.2.2), -1 if none."""
    if record[0] != HANDSHAKE:
        return -1
    newest, at = -1, HEADER_LENGTH
    while at + _MESSAGE_HEADER <= len(record):
        newest = max(newest, int.from_bytes(record[at + 4 : at + 6], "big"))
        at += _MESSAGE_HEADER + int.from_bytes(record[at + 9 : at + 12], "big")
    return newest


def _longest_message(record: bytes) -> int:
    """The length that the handshake messages in a record claim (RFC 6347 section 4.2.2), whatever
    part of them it carries."""
    longest, at = 0, HEADER_LENGTH
    while at + _MESSAGE_HEADER <= len(record):
        longest = max(longest, int.from_bytes(record[at + 1 : at + 4], "big"))
        at += _MESSAGE_HEADER + int.from_bytes(record[at + 9 : at + 12], "big")
    return longest


def _authentic(record: bytes, opener: Opener) -> bool:
    try:
        opener.authenticate_untrusted(record)
    except DtlsError:
        return False
    return True


def _is_clear_alert(record: bytes) -> bool:
    return record[0] == ALERT and record[3:5] == b"\0\0" and len(record) == HEADER_LENGTH + 2
