"""The stateless cookie that proves a peer's address (RFC 6347 section 4.2.1).

Until a peer has shown that it receives at the address it sends from, nothing about it is stored and
no answer is larger than its request. The cookie is ours and not OpenSSL's ``DTLSv1_listen`` because
that misnumbers the ServerHello after a repeated ClientHello (openssl issue 32063).

A cookie is an 8-byte salt and 24 bytes of HMAC-SHA256 over salt, time slot, address and the
ClientHello without its cookie, so it fits one address, one hello and at most 60 seconds. The salt
makes two cookies differ, so that a peer learns nothing about the clock from them. 32 bytes keep the
HelloVerifyRequest (60 bytes) smaller than any ClientHello with a random and a suite (67 bytes).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.dtls.records import DTLS_1_0, DTLS_1_2, HANDSHAKE, HEADER, HEADER_LENGTH
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_HELLO: Final = 1
HELLO_VERIFY_REQUEST: Final = 3
SLOT_S: Final = 30.0
"""A cookie is good in the slot that made it and in the next one."""

_SALT_LENGTH: Final = 8
_COOKIE_LENGTH: Final = 32
_LAST_RECORD: Final = (1 << 48) - (1 << 16)
"""Our own records are numbered from the hello's on (RFC 6347 section 4.2.1), must not wrap (section
4.1), and are some hundred with all repetitions. A client that begins at 0 never comes so far."""
_HANDSHAKE_HEADER_LENGTH: Final = 12


class UnsupportedVersionError(DtlsError):
    """The peer cannot speak DTLS 1.2: it may be told so (alert protocol_version)."""


class ClientHello(NamedTuple):
    """The outer parts of a ClientHello: enough to bind a cookie to it."""

    record_number: int
    """48-bit sequence number of its record; the answer carries it back (RFC 6347 4.2.1)."""
    message_seq: int
    cookie: bytes
    rest: bytes
    """Everything of the body but the cookie."""


def is_client_hello_untrusted(datagram: bytes) -> bool:
    """Whether the first record is an epoch-0 handshake record that holds a ClientHello."""
    return (
        len(datagram) > HEADER_LENGTH
        and datagram[0] == HANDSHAKE
        and datagram[3] == 0 == datagram[4]
        and datagram[HEADER_LENGTH] == CLIENT_HELLO
    )


def decode_client_hello_untrusted(datagram: bytes) -> ClientHello:
    """Parse the first record of ``datagram`` as an unfragmented ClientHello.

    A fragmented hello cannot be checked without keeping state and is refused, as OpenSSL does; it
    would have to be larger than any hello seen from a constrained node.

    Raises DtlsError, of which UnsupportedVersionError for a well-formed hello of another version.
    """
    if len(datagram) < HEADER_LENGTH + _HANDSHAKE_HEADER_LENGTH:
        raise DtlsError("datagram too short for a ClientHello")
    content_type, version, number, length = HEADER.unpack_from(datagram)
    if content_type != HANDSHAKE or number >> 48 != 0 or version not in (DTLS_1_0, DTLS_1_2):
        raise DtlsError("not an initial DTLS handshake record")
    if number > _LAST_RECORD:
        raise DtlsError("no record numbers would be left for the handshake")
    record = datagram[HEADER_LENGTH : HEADER_LENGTH + length]
    if len(record) != length or length < _HANDSHAKE_HEADER_LENGTH or record[0] != CLIENT_HELLO:
        raise DtlsError("not a whole ClientHello record")
    size = int.from_bytes(record[1:4], "big")
    offset = int.from_bytes(record[6:9], "big")
    fragment = int.from_bytes(record[9:12], "big")
    body = record[12 : 12 + size]
    if offset != 0 or fragment != size or len(body) != size:
        raise DtlsError("fragmented ClientHello")
    # client_version 2, random 32, session_id <0..32>, cookie <0..255>
    if size < 36:
        raise DtlsError("ClientHello too short")
    if body[:2] != b"\xfe\xfd":
        raise UnsupportedVersionError("not a DTLS 1.2 ClientHello")
    at = 35 + body[34]
    if at >= size:
        raise DtlsError("ClientHello ends inside its session id")
    cookie = body[at + 1 : at + 1 + body[at]]
    rest = body[at + 1 + body[at] :]
    if len(cookie) != body[at] or not rest:
        raise DtlsError("ClientHello ends inside its cookie")
    return ClientHello(number, int.from_bytes(record[4:6], "big"), cookie, body[:at] + rest)


class Cookies:
    """Makes and checks cookies with one secret.

    secret: 32 random bytes, new at every start. random: source of salts.
    """

    def __init__(self, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._random = random

    def _mac(self, salt: bytes, slot: int, address: bytes, hello: ClientHello) -> bytes:
        # Lengths keep the parts apart: no two inputs have the same encoding.
        message = salt + slot.to_bytes(8, "big") + len(address).to_bytes(2, "big") + address
        digest = hmac.digest(self._secret, message + hello.rest, hashlib.sha256)
        return digest[: _COOKIE_LENGTH - _SALT_LENGTH]

    def valid(self, hello: ClientHello, address: bytes, now: float) -> bool:
        """Whether this hello carries a cookie that we gave to this address a moment ago."""
        if len(hello.cookie) != _COOKIE_LENGTH:
            return False
        salt, mac = hello.cookie[:_SALT_LENGTH], hello.cookie[_SALT_LENGTH:]
        slot = int(now // SLOT_S)
        for made in (slot, slot - 1):
            if made >= 0 and hmac.compare_digest(mac, self._mac(salt, made, address, hello)):
                return True
        return False

    def challenge(self, hello: ClientHello, address: bytes, now: float) -> bytes:
        """HelloVerifyRequest (RFC 6347 section 4.2.1): 60 bytes, whatever came in."""
        salt = self._random(_SALT_LENGTH)
        cookie = salt + self._mac(salt, int(now // SLOT_S), address, hello)
        body = DTLS_1_0.to_bytes(2, "big") + bytes((len(cookie),)) + cookie
        size = len(body).to_bytes(3, "big")
        message = bytes((HELLO_VERIFY_REQUEST,)) + size + b"\0\0" + b"\0\0\0" + size + body
        return HEADER.pack(HANDSHAKE, DTLS_1_0, hello.record_number, len(message)) + message
