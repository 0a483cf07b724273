"""COSE_Encrypt0 with AES-256-GCM (RFC 9052 section 5.2): one record under its epoch's key.

Sealing is on the way of every datagram, so its bytes are laid out by hand: all that precedes the
IV is the same for every record of an epoch. The IV is a counter, which cannot repeat while the
key lives in one :class:`Sealer` and nowhere else; a random IV could, after 2^32 records. The
``kid`` is protected: a record that was moved to another epoch's name does not open.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.cose import cbor, headers
from gateway.cose.keys import CONTENT_KEY_BYTES
from gateway.errors import BadRequestError, IntegrityError, SealError

if TYPE_CHECKING:
    from gateway.cose.headers import Headers

EPOCH_BYTES: Final = 16
IV_BYTES: Final = 12
MAX_CIPHERTEXT_BYTES: Final = 1 << 20
"""A record is some hundred bytes; a node's own COSE message, block by block, some thousand."""

_MAX_PLAINTEXT_BYTES: Final = MAX_CIPHERTEXT_BYTES - 16
_TAG: Final = 16
_STRUCTURE: Final = b"\x83" + cbor.text_string("Encrypt0")
"""Enc_structure up to the protected header (RFC 9052 section 5.3)."""

_LONG: Final = struct.Struct(">BH")
"""Head of a byte string of 256 to 65,535 bytes, what nearly every record is."""

_MAX_SEALED: Final = 1 << 32
"""Invocations under one key (NIST SP 800-38D section 8.3)."""


class Sealer:
    """Seals under one content key. The only holder of that key's counter: one key, one Sealer."""

    __slots__ = ("_encrypt", "_head", "_structure", "epoch", "sealed_count")

    def __init__(self, epoch: bytes, content_key: bytes) -> None:
        """``epoch``: 16 bytes, the ``kid``; ``content_key``: 32 random bytes, never written down.

        Raises SealError for other lengths.
        """
        if len(epoch) != EPOCH_BYTES or len(content_key) != CONTENT_KEY_BYTES:
            raise SealError("an epoch must be 16 bytes and its content key 32")
        self.epoch = epoch
        self.sealed_count = 0
        protected = cbor.byte_string(
            cbor.encode({headers.ALG: headers.A256GCM, headers.KID: epoch})
        )
        # 16([protected, {5: IV}, ciphertext]); the map's head, its label and the IV's length
        self._head = b"\xd0\x83" + protected + b"\xa1\x05\x4c"
        self._structure = _STRUCTURE + protected
        self._encrypt = AESGCM(content_key).encrypt

    def seal(self, plaintext: bytes, external_aad: bytes) -> bytes:
        """A tagged COSE_Encrypt0 message, ``kid`` = the epoch.

        Raises SealError: more than a reader would open, or after 2^32 records.
        """
        if len(plaintext) > _MAX_PLAINTEXT_BYTES:
            raise SealError(f"{len(plaintext)} bytes are too many for one record")
        count = self.sealed_count + 1
        if count > _MAX_SEALED:
            raise SealError("this content key has sealed all it may")
        self.sealed_count = count  # first: whatever fails below, this IV is spent
        iv = count.to_bytes(IV_BYTES, "big")
        size = len(external_aad)
        aad_head = bytes((0x58, size)) if 24 <= size < 256 else cbor.head(cbor.BYTES, size)
        ciphertext = self._encrypt(iv, plaintext, self._structure + aad_head + external_aad)
        size = len(ciphertext)
        head = _LONG.pack(0x59, size) if 256 <= size < 65536 else cbor.head(cbor.BYTES, size)
        return b"%b%b%b%b" % (self._head, iv, head, ciphertext)

    def __reduce__(self) -> NoReturn:
        """A copy would use the same IVs again."""
        raise TypeError("a Sealer cannot be copied")


def open_untrusted(message: bytes, content_key: bytes, external_aad: bytes) -> bytes:
    """The plaintext. Raises BadRequestError (shape) or IntegrityError (does not open)."""
    layer, ciphertext = _read_untrusted(message)
    return decrypt_untrusted(layer, _STRUCTURE, ciphertext, content_key, external_aad)


def epoch_of_untrusted(message: bytes) -> bytes:
    """The ``kid``: which content key opens this message. Raises BadRequestError."""
    return _read_untrusted(message)[0].byte_string(headers.KID)


def _read_untrusted(message: bytes) -> tuple[Headers, bytes]:
    reader = cbor.Reader(message)
    reader.expect(cbor.TAG, _TAG)
    reader.expect(cbor.ARRAY, 3)
    layer = headers.read_untrusted(reader)
    ciphertext = reader.byte_string(MAX_CIPHERTEXT_BYTES)
    reader.end()
    layer.require(headers.A256GCM)
    return layer, ciphertext


def decrypt_untrusted(
    layer: Headers, structure: bytes, ciphertext: bytes, content_key: bytes, external_aad: bytes
) -> bytes:
    """AES-256-GCM content whose Enc_structure begins with ``structure`` (RFC 9052 section 5.3).

    Raises BadRequestError (IV) or IntegrityError, always in the same words.
    """
    iv = layer.byte_string(headers.IV)
    if len(iv) != IV_BYTES:
        raise BadRequestError("COSE: the IV must be 12 bytes")
    if len(content_key) != CONTENT_KEY_BYTES:
        raise IntegrityError("COSE message does not open")
    aad = structure + cbor.byte_string(layer.encoded) + cbor.byte_string(external_aad)
    try:
        return AESGCM(content_key).decrypt(iv, ciphertext, aad)
    except InvalidTag as exc:
        raise IntegrityError("COSE message does not open") from exc
