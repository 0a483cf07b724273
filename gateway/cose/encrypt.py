"""COSE_Encrypt (RFC 9052 section 5.1): AES-256-GCM content for recipients by ECDH-ES + A256KW.

Each recipient gets the content key wrapped (RFC 3394) under a key agreed with an ephemeral key of
the recipient's own curve (RFC 9053 section 6.4.1). What the parties are called is not in the key
derivation: names are bound by ``external_aad``, and the envelope around is signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.cose import cbor, encrypt0, headers
from gateway.cose.keys import (
    CONTENT_KEY_BYTES,
    PrivateKey,
    PublicKey,
    decode_public_untrusted,
    encode_public,
    thumbprint,
)
from gateway.errors import BadRequestError, IntegrityError, SealError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.cose.headers import Headers

MAX_RECIPIENTS: Final = 128
"""A patient, a ward's staff and its desks; each costs about 160 bytes and an ECDH to make."""

_TAG: Final = 96
_STRUCTURE: Final = b"\x83" + cbor.text_string("Encrypt")
_RECIPIENT_PROTECTED: Final = cbor.encode({headers.ALG: headers.ECDH_ES_A256KW})
_WRAPPED_BYTES: Final = CONTENT_KEY_BYTES + 8
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class _Recipient(NamedTuple):
    layer: Headers
    wrapped: bytes


def encrypt(
    plaintext: bytes,
    recipients: Sequence[PublicKey],
    *,
    external_aad: bytes,
    random: Callable[[int], bytes],
    protected: Mapping[int | str, object] | None = None,
) -> bytes:
    """A tagged COSE_Encrypt message; each recipient's ``kid`` is the thumbprint of their key.

    ``protected`` adds header parameters to the algorithm in the content's protected header.
    Raises SealError: no recipient, or more than :data:`MAX_RECIPIENTS`.
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise SealError(f"{len(recipients)} recipients: there must be 1 to {MAX_RECIPIENTS}")
    content_key = random(CONTENT_KEY_BYTES)
    iv = random(encrypt0.IV_BYTES)
    header = cbor.byte_string(cbor.encode({**(protected or {}), headers.ALG: headers.A256GCM}))
    aad = _STRUCTURE + header + cbor.byte_string(external_aad)
    return b"".join(
        (
            cbor.head(cbor.TAG, _TAG) + cbor.head(cbor.ARRAY, 4),
            header,
            cbor.encode({headers.IV: iv}),
            cbor.byte_string(AESGCM(content_key).encrypt(iv, plaintext, aad)),
            cbor.head(cbor.ARRAY, len(recipients)),
            *(_wrap(content_key, key, random) for key in recipients),
        )
    )


def decrypt_untrusted(
    message: bytes, private_key: PrivateKey, *, external_aad: bytes, kid: bytes | None = None
) -> bytes:
    """The plaintext, for the recipient called ``kid`` (default: the thumbprint of the key).

    Raises BadRequestError (shape) or IntegrityError (not for this key, or does not open).
    """
    layer, ciphertext, recipients = _read_untrusted(message)
    name = thumbprint(private_key.public_key()) if kid is None else kid
    mine = [each for each in recipients if each.layer.unprotected.get(headers.KID) == name]
    if len(mine) != 1:
        raise IntegrityError("COSE message is not for this key")
    content_key = _unwrap_untrusted(mine[0], private_key)
    return encrypt0.decrypt_untrusted(layer, _STRUCTURE, ciphertext, content_key, external_aad)


def _read_untrusted(message: bytes) -> tuple[Headers, bytes, list[_Recipient]]:
    reader = cbor.Reader(message)
    reader.expect(cbor.TAG, _TAG)
    reader.expect(cbor.ARRAY, 4)
    layer = headers.read_untrusted(reader)
    ciphertext = reader.byte_string(encrypt0.MAX_CIPHERTEXT_BYTES)
    count = reader.head(cbor.ARRAY)
    if not 1 <= count <= MAX_RECIPIENTS:
        raise BadRequestError(f"COSE: there must be 1 to {MAX_RECIPIENTS} recipients")
    recipients = []
    for _ in range(count):
        reader.expect(cbor.ARRAY, 3)  # a fourth element would be recipients of a recipient
        recipients.append(_Recipient(headers.read_untrusted(reader), reader.byte_string(256)))
    reader.end()
    layer.require(headers.A256GCM)
    return layer, ciphertext, recipients


def _wrap(content_key: bytes, recipient: PublicKey, random: Callable[[int], bytes]) -> bytes:
    ephemeral: PrivateKey
    if isinstance(recipient, x25519.X25519PublicKey):
        ephemeral = x25519.X25519PrivateKey.from_private_bytes(random(32))
    else:
        # FIPS 186-5 appendix A.2.1: 64 bits more than the order, so that the bias is nothing
        scalar = int.from_bytes(random(40), "big") % (_P256_ORDER - 1) + 1
        ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    key = _agree(ephemeral, recipient, _RECIPIENT_PROTECTED)
    unprotected = {
        headers.EPHEMERAL_KEY: encode_public(ephemeral.public_key()),
        headers.KID: thumbprint(recipient),
    }
    return b"".join(
        (
            cbor.head(cbor.ARRAY, 3),
            cbor.byte_string(_RECIPIENT_PROTECTED),
            cbor.encode(unprotected),
            cbor.byte_string(keywrap.aes_key_wrap(key, content_key)),
        )
    )


def _unwrap_untrusted(recipient: _Recipient, private_key: PrivateKey) -> bytes:
    layer, wrapped = recipient
    layer.require(headers.ECDH_ES_A256KW)
    if len(wrapped) != _WRAPPED_BYTES:
        raise BadRequestError("COSE: a wrapped content key must be 40 bytes")
    ephemeral = decode_public_untrusted(layer.unprotected.get(headers.EPHEMERAL_KEY))
    try:
        key = _agree(private_key, ephemeral, layer.encoded)
        return keywrap.aes_key_unwrap(key, wrapped)
    except (keywrap.InvalidUnwrap, ValueError) as exc:  # ValueError: X25519 gave all zeros
        raise IntegrityError("COSE message does not open") from exc


def _agree(private_key: PrivateKey, public_key: PublicKey, protected: bytes) -> bytes:
    """The key that wraps: ECDH, then HKDF-SHA-256 (RFC 9053 sections 5.1, 6.4.1).

    Raises ValueError: the keys are on different curves, or the secret would be zero.
    """
    if isinstance(private_key, x25519.X25519PrivateKey):
        if not isinstance(public_key, x25519.X25519PublicKey):
            raise ValueError("keys are on different curves")
        secret = private_key.exchange(public_key)
    else:
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise ValueError("keys are on different curves")
        secret = private_key.exchange(ec.ECDH(), public_key)
    # COSE_KDF_Context (RFC 9053 section 5.2): no names or nonces of the parties
    party = (None, None, None)
    context = [headers.A256KW, party, party, [CONTENT_KEY_BYTES * 8, protected]]
    return HKDF(hashes.SHA256(), CONTENT_KEY_BYTES, None, cbor.encode(context)).derive(secret)
