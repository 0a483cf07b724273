"""A DTLS client that says what it is told to, in any order (RFC 6347 section 4.2, RFC 5246).

It knows TLS well enough to shake hands, and checks nothing: each message is made from what has been
said and heard so far, whether or not it is its turn. It is also cheap: a tenth of OpenSSL's cost.
"""

from __future__ import annotations

import hashlib
from struct import pack
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    DTLS_1_2,
    HANDSHAKE,
    HEADER,
    HEADER_LENGTH,
    SUITES,
    Opener,
    Protector,
    RecordKeys,
    derive_keys,
    prf,
    split_untrusted,
)
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from gateway.dtls.credentials import Identity

PSK_SUITE: Final = "PSK-AES128-CCM8"
CERTIFICATE_SUITE: Final = "ECDHE-ECDSA-AES128-GCM-SHA256"

CLIENT_HELLO, SERVER_HELLO, HELLO_VERIFY_REQUEST = 1, 2, 3
CERTIFICATE, SERVER_KEY_EXCHANGE, SERVER_HELLO_DONE, CERTIFICATE_VERIFY = 11, 12, 14, 15
CLIENT_KEY_EXCHANGE, FINISHED = 16, 20

_EXTENSIONS: Final = bytes.fromhex("000a00040002 0017 000b00020100 000d000400020403")
"""P-256, uncompressed points, ECDSA with SHA-256."""


def message(kind: int, seq: int, body: bytes) -> bytes:
    """A handshake message in one fragment."""
    size = len(body).to_bytes(3, "big")
    return bytes((kind,)) + size + pack("!H", seq) + bytes(3) + size + body


def record(content_type: int, number: int, fragment: bytes, *, epoch: int = 0) -> bytes:
    """One record in the clear."""
    return HEADER.pack(content_type, DTLS_1_2, epoch << 48 | number, len(fragment)) + fragment


class Puppet:
    """One association, or as much of one as is wanted. All methods give or take records.

    key: a pre-shared one for ``identity``; or certificate: its own.
    """

    def __init__(
        self,
        chance: Random,
        *,
        identity: bytes = b"device-1",
        key: bytes = b"",
        certificate: Identity | None = None,
    ) -> None:
        self._identity, self._key, self._certificate = identity, key, certificate
        self.suite = PSK_SUITE if certificate is None else CERTIFICATE_SUITE
        self._random = chance.randbytes(32)
        self.number = 0
        """Of the next record in the clear."""
        self.cookie = b""
        self.heard: set[int] = set()
        """Kinds of the gateway's messages; alerts are 100 and more."""
        self._transcript = b""
        self._server_random = bytes(32)
        self._point = b""
        self._secret: ec.EllipticCurvePrivateKey | None = None
        self._premaster = self._psk_premaster() if certificate is None else bytes(32)
        self._protector: Protector | None = None
        self._opener: Opener | None = None
        self._next_record = 0

    # -- what it says

    def hello_body(self) -> bytes:
        extensions = b"" if self._certificate is None else _EXTENSIONS
        return (
            pack("!H", DTLS_1_2)
            + self._random
            + bytes((0, len(self.cookie)))
            + self.cookie
            + pack("!HHBB", 2, SUITES[self.suite].number, 1, 0)
            + (pack("!H", len(extensions)) + extensions if extensions else b"")
        )

    def hello(self, seq: int | None = None) -> bytes:
        """With the cookie if there is one. 67 bytes without, for a key: there is no smaller one."""
        said = message(
            CLIENT_HELLO, int(bool(self.cookie)) if seq is None else seq, self.hello_body()
        )
        if self.cookie:
            self._transcript = said
        return self._clear(HANDSHAKE, said)

    def certificate(self, seq: int = 2) -> bytes:
        assert self._certificate is not None
        shown = self._certificate.certificate.public_bytes(Encoding.DER)
        length = len(shown).to_bytes(3, "big")
        return self._say(CERTIFICATE, seq, (len(shown) + 3).to_bytes(3, "big") + length + shown)

    def key_exchange(self, seq: int | None = None) -> bytes:
        if self._certificate is None:
            body = pack("!H", len(self._identity)) + self._identity
            return self._say(CLIENT_KEY_EXCHANGE, 2 if seq is None else seq, body)
        if self._secret is None:
            self._secret = ec.generate_private_key(ec.SECP256R1())
        if self._point:
            theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self._point)
            self._premaster = self._secret.exchange(ec.ECDH(), theirs)
        point = self._secret.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        return self._say(CLIENT_KEY_EXCHANGE, 3 if seq is None else seq, bytes((65,)) + point)

    def certificate_verify(self, seq: int = 4) -> bytes:
        assert self._certificate is not None
        signed = self._certificate.key.sign(self._transcript, ec.ECDSA(hashes.SHA256()))
        return self._say(CERTIFICATE_VERIFY, seq, b"\4\3" + pack("!H", len(signed)) + signed)

    def change_cipher_spec(self) -> bytes:
        return self._clear(CHANGE_CIPHER_SPEC, b"\1")

    def alert(self, *, level: int = 2, description: int = 40) -> bytes:
        return self._clear(ALERT, bytes((level, description)))

    def finished(self, seq: int | None = None) -> bytes:
        usual = 3 if self._certificate is None else 5
        digest = hashlib.sha256(self._transcript).digest()
        verify = prf(self._master(), b"client finished", digest, 12)
        said = message(FINISHED, usual if seq is None else seq, verify)
        return self.protect(HANDSHAKE, said)

    def data(self, plaintext: bytes) -> bytes:
        return self.protect(APPLICATION_DATA, plaintext)

    def protect(self, content_type: int, plaintext: bytes) -> bytes:
        """By the keys that follow from what has been said so far."""
        keys = self._keys()
        protector = Protector(keys.suite, keys.client_key, keys.client_salt, self._next_record)
        self._next_record += 1
        return protector.protect(content_type, plaintext)

    def flight(self) -> list[bytes]:
        """All that follows the gateway's HelloDone."""
        if self._certificate is None:
            return [self.key_exchange(), self.change_cipher_spec(), self.finished()]
        return [
            self.certificate(),
            self.key_exchange(),
            self.certificate_verify(),
            self.change_cipher_spec(),
            self.finished(),
        ]

    # -- what it hears

    def hear(self, datagrams: Iterable[bytes]) -> list[bytes]:
        """Take in the gateway's datagrams; plaintexts of application data."""
        plaintexts = []
        part = b""
        for one in (one for datagram in datagrams for one in split_untrusted(datagram)):
            epoch, body = one[4], one[HEADER_LENGTH:]
            if one[0] == ALERT and not epoch:
                self.heard.add(100 + body[1])
            elif one[0] == HANDSHAKE and not epoch:
                # Fragments come in order here, and together.
                offset, size = int.from_bytes(body[6:9], "big"), int.from_bytes(body[1:4], "big")
                part = body[12:] if not offset else part + body[12:]
                if len(part) == size:
                    self._hear(body[0], int.from_bytes(body[4:6], "big"), part)
            elif epoch:
                self._opener = self._opener or self._make_opener()
                try:
                    plaintext = self._opener.open_untrusted(one)
                except DtlsError:
                    continue
                if one[0] == APPLICATION_DATA:
                    plaintexts.append(plaintext)
                else:
                    self.heard.add(FINISHED if one[0] == HANDSHAKE else 100 + plaintext[1])
        return plaintexts

    def _hear(self, kind: int, seq: int, body: bytes) -> None:
        again = kind in self.heard
        self.heard.add(kind)
        if kind == HELLO_VERIFY_REQUEST:
            self.cookie = body[3 : 3 + body[2]]
            return
        if again:
            return
        if kind == SERVER_HELLO:
            self._server_random = body[2:34]
        elif kind == SERVER_KEY_EXCHANGE and self._certificate is not None:
            self._point = body[4 : 4 + body[3]]
        self._transcript += message(kind, seq, body)

    # -- keys

    def _psk_premaster(self) -> bytes:
        length = pack("!H", len(self._key))
        return length + bytes(len(self._key)) + length + self._key

    def _master(self) -> bytes:
        seed = self._random + self._server_random
        return prf(self._premaster, b"master secret", seed, 48)

    def _keys(self) -> RecordKeys:
        return derive_keys(self.suite, self._master(), self._random, self._server_random)

    def _make_opener(self) -> Opener:
        keys = self._keys()
        return Opener(keys.suite, keys.server_key, keys.server_salt)

    def _say(self, kind: int, seq: int, body: bytes) -> bytes:
        said = message(kind, seq, body)
        self._transcript += said
        return self._clear(HANDSHAKE, said)

    def _clear(self, content_type: int, fragment: bytes) -> bytes:
        made = record(content_type, self.number, fragment)
        self.number += 1
        return made
