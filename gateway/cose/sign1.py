"""COSE_Sign1 with ES256 (RFC 9052 section 4.2, RFC 9053 section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from gateway.cose import cbor, headers
from gateway.cose.keys import is_p256
from gateway.errors import BadRequestError, IntegrityError, SealError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.cose.headers import Headers

MAX_PAYLOAD_BYTES: Final = 64 << 20
"""A batch. Whoever receives it limits the request's body long before that."""

_TAG: Final = 18
_STRUCTURE: Final = b"\x84" + cbor.text_string("Signature1")
"""Sig_structure up to the protected header (RFC 9052 section 4.4)."""

_HALF: Final = 32
_ALGORITHM: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class Signed(NamedTuple):
    """A message whose signature was verified. ``unprotected`` was not covered by it."""

    payload: bytes
    protected: Mapping[int | str, object]
    unprotected: Mapping[int | str, object]


class _Message(NamedTuple):
    layer: Headers
    payload: bytes
    signature: bytes


def sign(
    private_key: ec.EllipticCurvePrivateKey,
    payload: bytes,
    *,
    external_aad: bytes = b"",
    protected: Mapping[int | str, object] | None = None,
    unprotected: Mapping[int | str, object] | None = None,
) -> bytes:
    """A tagged COSE_Sign1 message; ECDSA is deterministic (RFC 6979).

    ``protected`` adds header parameters to the algorithm. Raises SealError: not a P-256 key.
    """
    if not is_p256(private_key.public_key()):
        raise SealError("a signing key must be on P-256")
    encoded = cbor.encode({**(protected or {}), headers.ALG: headers.ES256})
    signature = private_key.sign(_structure(encoded, external_aad, payload), _ALGORITHM)
    r, s = decode_dss_signature(signature)
    return b"".join(
        (
            cbor.head(cbor.TAG, _TAG) + cbor.head(cbor.ARRAY, 4),
            cbor.byte_string(encoded),
            cbor.encode(dict(unprotected or {})),
            cbor.byte_string(payload),
            cbor.byte_string(r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")),
        )
    )


def verify_untrusted(
    message: bytes, public_key: ec.EllipticCurvePublicKey, *, external_aad: bytes = b""
) -> Signed:
    """Raises BadRequestError (shape), TooLargeError, or IntegrityError (signature)."""
    layer, payload, signature = _read_untrusted(message)
    if not is_p256(public_key):
        raise IntegrityError("COSE signature: the signer's key is not on P-256")
    r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:]))
    signed = _structure(layer.encoded, external_aad, payload)
    try:
        public_key.verify(encode_dss_signature(r, s), signed, _ALGORITHM)
    except InvalidSignature as exc:
        raise IntegrityError("COSE signature does not verify") from exc
    return Signed(payload, layer.protected, layer.unprotected)


def x5chain_untrusted(message: bytes) -> x509.Certificate:
    """The signer's certificate (header 33, RFC 9360). The signature is *not* verified here.

    A ward's authority issues every certificate itself, so there is exactly one, never a chain.
    Raises BadRequestError.
    """
    encoded = _read_untrusted(message).layer.byte_string(headers.X5CHAIN)
    try:
        return x509.load_der_x509_certificate(encoded)
    except Exception as exc:  # ValueError, InvalidVersion and what else a parser may raise
        raise BadRequestError("COSE signature: x5chain is not a certificate") from exc


def _read_untrusted(message: bytes) -> _Message:
    reader = cbor.Reader(message)
    reader.expect(cbor.TAG, _TAG)
    reader.expect(cbor.ARRAY, 4)
    layer = headers.read_untrusted(reader)
    payload = reader.byte_string(MAX_PAYLOAD_BYTES)
    signature = reader.exactly(2 * _HALF)
    reader.end()
    layer.require(headers.ES256)
    return _Message(layer, payload, signature)


def _structure(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    return b"".join(
        (_STRUCTURE, *(cbor.byte_string(each) for each in (protected, external_aad, payload)))
    )
