"""The record layer of DTLS 1.2 (RFC 6347 section 4.1) for associations whose handshake is done.

OpenSSL shakes hands; from then on an association is two keys, two salts, a counter out and a
window in, a few hundred bytes instead of OpenSSL's 70 KiB. This module turns a master secret into
those and protects and opens records with them. Rules that keep it safe:

- Only AEAD suites whose PRF is SHA-256: one small key schedule serves all (RFC 5246 section 6.3).
- The explicit nonce is the 64-bit epoch and sequence number, as RFC 6655 section 3 and RFC 5288
  section 3 allow. A :class:`Protector` only ever counts up, so a nonce cannot repeat for a key.
- A record is authenticated before its number enters the window (RFC 6347 section 4.1.2.6), so that
  a forged number cannot shut out a real one.

Nothing here keeps state about addresses, timers or the handshake: that is the association's.
"""

from __future__ import annotations

import hashlib
import hmac
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

DTLS_1_0: Final = 0xFEFF
DTLS_1_2: Final = 0xFEFD

HEADER: Final = Struct("!BHQH")
"""Content type, version, epoch (16 bits) and sequence number (48 bits), length of the fragment."""

HEADER_LENGTH: Final = 13
WINDOW: Final = 64
"""Records behind the newest that are still accepted once (RFC 6347 section 4.1.2.6)."""

_EPOCH_1: Final = 1 << 48
_LAST_NUMBER: Final = (1 << 48) - 1


class Aead(Protocol):
    """What the three AEAD classes of `cryptography` have in common."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


class Suite(NamedTuple):
    """One cipher suite: how to make its AEAD, and how its nonces are built."""

    number: int
    """As registered by IANA, for tests against other implementations."""
    make: Callable[[bytes], Aead]
    key_length: int
    salt_length: int
    """Implicit part of the nonce, from the key block: 4, or 12 when there is no explicit part."""
    tag_length: int


def _ccm(key: bytes) -> Aead:
    return AESCCM(key, tag_length=16)


def _ccm8(key: bytes) -> Aead:
    return AESCCM(key, tag_length=8)


SUITES: Final[dict[str, Suite]] = {
    # Best first: this is also the order in which a server chooses (engines/openssl.py).
    "ECDHE-PSK-CHACHA20-POLY1305": Suite(0xCCAC, ChaCha20Poly1305, 32, 12, 16),
    "PSK-AES128-GCM-SHA256": Suite(0x00A8, AESGCM, 16, 4, 16),
    "PSK-CHACHA20-POLY1305": Suite(0xCCAB, ChaCha20Poly1305, 32, 12, 16),
    "PSK-AES128-CCM": Suite(0xC0A4, _ccm, 16, 4, 16),
    "PSK-AES128-CCM8": Suite(0xC0A8, _ccm8, 16, 4, 8),
    "ECDHE-ECDSA-AES128-GCM-SHA256": Suite(0xC02B, AESGCM, 16, 4, 16),
    "ECDHE-ECDSA-CHACHA20-POLY1305": Suite(0xCCA9, ChaCha20Poly1305, 32, 12, 16),
    "ECDHE-ECDSA-AES128-CCM": Suite(0xC0AC, _ccm, 16, 4, 16),
    "ECDHE-ECDSA-AES128-CCM8": Suite(0xC0AE, _ccm8, 16, 4, 8),
}
"""By OpenSSL's names, which are what the handshake reports."""


class RecordKeys(NamedTuple):
    """What a finished handshake leaves behind for the record layer, seen from the server."""

    suite: str
    client_key: bytes
    server_key: bytes
    client_salt: bytes
    server_salt: bytes


def prf(secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """P_SHA256 of TLS 1.2 (RFC 5246 section 5)."""
    seed = label + seed
    block, out = seed, b""
    while len(out) < length:
        block = hmac.digest(secret, block, hashlib.sha256)
        out += hmac.digest(secret, block + seed, hashlib.sha256)
    return out[:length]


def derive_keys(
    suite: str, master: bytes, client_random: bytes, server_random: bytes
) -> RecordKeys:
    """Cut the key block of RFC 5246 section 6.3; AEAD suites have no MAC keys."""
    _, _, key, salt, _ = SUITES[suite]
    block = prf(master, b"key expansion", server_random + client_random, 2 * (key + salt))
    cuts = (0, key, 2 * key, 2 * key + salt, 2 * (key + salt))
    parts = [block[start:end] for start, end in pairwise(cuts)]
    return RecordKeys(suite, *parts)


class Protector:
    """Makes epoch-1 records. Counts up from ``number`` and never repeats one."""

    __slots__ = ("_aead", "_number", "_salt")

    def __init__(self, suite: str, key: bytes, salt: bytes, number: int) -> None:
        self._aead = SUITES[suite].make(key)
        self._salt = salt if len(salt) == 4 else int.from_bytes(salt, "big")
        self._number = number

    def protect(self, content_type: int, plaintext: bytes) -> bytes:
        """One record, ready to send.

        Raises DtlsError when the 2**48 numbers of the epoch are used up; a new handshake is due.
        """
        number = self._number
        if number > _LAST_NUMBER:
            raise DtlsError("sequence numbers of this association are used up")
        self._number = number + 1
        counter = (_EPOCH_1 | number).to_bytes(8, "big")
        length = len(plaintext)
        aad = counter + bytes((content_type, 0xFE, 0xFD, length >> 8, length & 0xFF))
        salt = self._salt
        if isinstance(salt, bytes):
            body = counter + self._aead.encrypt(salt + counter, plaintext, aad)
        else:
            nonce = (salt ^ _EPOCH_1 ^ number).to_bytes(12, "big")
            body = self._aead.encrypt(nonce, plaintext, aad)
        return HEADER.pack(content_type, DTLS_1_2, _EPOCH_1 | number, len(body)) + body

    @property
    def number(self) -> int:
        """The next sequence number."""
        return self._number


class Opener:
    """Opens epoch-1 records: each once, none that is older than the window."""

    __slots__ = ("_aead", "_newest", "_overhead", "_salt", "_seen", "_tag")

    def __init__(self, suite: str, key: bytes, salt: bytes) -> None:
        self._aead = SUITES[suite].make(key)
        explicit = len(salt) == 4
        self._salt = salt if explicit else int.from_bytes(salt, "big")
        self._tag = SUITES[suite].tag_length
        self._overhead = self._tag + (8 if explicit else 0)
        self._newest = -1
        self._seen = 0  # bit n: number (newest - n) has been accepted

    def open_untrusted(self, record: bytes) -> bytes:
        """The plaintext of one whole epoch-1 record; its number then counts as seen.

        Raises DtlsError for a replay, a number left of the window or a failed authentication; the
        window is unchanged then.
        """
        counter = record[3:11]
        number = int.from_bytes(counter, "big") - _EPOCH_1
        behind = self._newest - number
        if behind >= 0 and (behind >= WINDOW or self._seen >> behind & 1):
            raise DtlsError("replayed record")
        plaintext = self.authenticate_untrusted(record)
        if behind < 0:
            self._newest = number
            self._seen = (self._seen << min(-behind, WINDOW) | 1) & 0xFFFFFFFFFFFFFFFF
        else:
            self._seen |= 1 << behind
        return plaintext

    def authenticate_untrusted(self, record: bytes) -> bytes:
        """The plaintext, whether or not the record was seen before; the window is not touched.

        Raises DtlsError when it was not made with this key.
        """
        length = len(record) - HEADER_LENGTH - self._overhead
        if length < 0:
            raise DtlsError("record shorter than its protection")
        counter = record[3:11]
        aad = counter + record[:3] + length.to_bytes(2, "big")
        salt = self._salt
        try:
            if isinstance(salt, bytes):
                # The explicit nonce is the sender's choice (RFC 6655 section 3): read, not assumed.
                return self._aead.decrypt(salt + record[13:21], record[21:], aad)
            nonce = (salt ^ int.from_bytes(counter, "big")).to_bytes(12, "big")
            return self._aead.decrypt(nonce, record[13:], aad)
        except InvalidTag:
            raise DtlsError("record fails authentication") from None

    def mark_seen(self, number: int) -> None:
        """A record that the handshake engine has consumed must not be accepted again."""
        behind = self._newest - number
        if behind < 0:
            self._newest, self._seen = number, (self._seen << min(-behind, WINDOW) | 1)
            self._seen &= 0xFFFFFFFFFFFFFFFF
        elif behind < WINDOW:
            self._seen |= 1 << behind


def split_untrusted(datagram: bytes) -> Iterator[bytes]:
    """The records of a datagram, in order, each with its header.

    Stops at the first that is cut short: what follows cannot be found (RFC 6347 section 4.1.2.7
    asks to discard silently, and never to end the association).
    """
    start, end = 0, len(datagram)
    while end - start >= HEADER_LENGTH:
        stop = start + HEADER_LENGTH + (datagram[start + 11] << 8 | datagram[start + 12])
        if stop > end:
            return
        yield datagram[start:stop]
        start = stop
