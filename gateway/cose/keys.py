"""COSE_Key (RFC 9052 section 7, RFC 9053 section 7) and its thumbprint (RFC 9679)."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from gateway.cose import cbor
from gateway.cose.headers import A256GCM
from gateway.errors import BadRequestError, SealError

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | x25519.X25519PublicKey
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey

CONTENT_KEY_BYTES: Final = 32

_KTY, _KID, _ALG = 1, 2, 3
_OKP, _EC2, _SYMMETRIC = 1, 2, 4
_CRV, _X, _Y, _D = -1, -2, -3, -4
_K: Final = -1
_P256, _X25519 = 1, 4
_COORDINATE_BYTES: Final = 32
_FIELD_25519: Final = 2**255 - 19


def encode_public(key: PublicKey) -> dict[int, int | bytes]:
    """The COSE_Key map of a P-256 or X25519 public key: its required parameters, no others.

    Raises SealError for a key on another curve.
    """
    if isinstance(key, x25519.X25519PublicKey):
        return {_KTY: _OKP, _CRV: _X25519, _X: key.public_bytes_raw()}
    if not is_p256(key):
        raise SealError("a sealing key must be on P-256 or X25519")
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return {_KTY: _EC2, _CRV: _P256, _X: point[1:33], _Y: point[33:]}


def is_p256(key: object) -> bool:
    """Whether this is a public key of the one curve that signs here."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def decode_public_untrusted(key: object) -> PublicKey:
    """The public key of a decoded COSE_Key map. ``y`` may be a bool (compressed point).

    Raises BadRequestError: not a map of a P-256 or X25519 public key, or not on the curve.
    """
    parameters = cbor.mapping_untrusted(key)
    kty, crv, x = (parameters.get(label) for label in (_KTY, _CRV, _X))
    if type(kty) is not int or type(crv) is not int or type(x) is not bytes:
        raise BadRequestError("COSE key: kty, crv or x is missing")
    if _D in parameters:
        raise BadRequestError("COSE key: a private key where a public one must be")
    if len(x) != _COORDINATE_BYTES:
        raise BadRequestError("COSE key: x must be 32 bytes")
    if (kty, crv) == (_EC2, _P256):
        return _point_untrusted(x, parameters.get(_Y))
    if (kty, crv) == (_OKP, _X25519):
        # RFC 7748 section 5 would reduce it; then one key would have several thumbprints.
        if int.from_bytes(x, "little") >= _FIELD_25519:
            raise BadRequestError("COSE key: x is not reduced")
        return x25519.X25519PublicKey.from_public_bytes(x)
    raise BadRequestError("COSE key: neither P-256 nor X25519")


def _point_untrusted(x: bytes, y: object) -> ec.EllipticCurvePublicKey:
    """SEC 1 section 2.3.4; the library refuses a point that is not on the curve."""
    if type(y) is bool:
        encoded = (b"\x03" if y else b"\x02") + x
    elif type(y) is bytes and len(y) == _COORDINATE_BYTES:
        encoded = b"\x04" + x + y
    else:
        raise BadRequestError("COSE key: y must be 32 bytes or a bool")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)
    except ValueError as exc:
        raise BadRequestError("COSE key: not a point of P-256") from exc


def encode_symmetric(key: bytes, *, kid: bytes) -> bytes:
    """A COSE_Key of a 32-byte AES-256-GCM key under the name ``kid``, deterministic CBOR."""
    if len(key) != CONTENT_KEY_BYTES:
        raise SealError("a content key must be 32 bytes")
    return cbor.encode({_KTY: _SYMMETRIC, _KID: kid, _ALG: A256GCM, _K: key})


def decode_symmetric_untrusted(data: bytes) -> tuple[bytes, bytes]:
    """``(kid, key)`` of a COSE_Key as :func:`encode_symmetric` makes it.

    Raises BadRequestError.
    """
    parameters = cbor.mapping_untrusted(cbor.decode_untrusted(data))
    kty, alg = parameters.get(_KTY), parameters.get(_ALG)
    kid, key = parameters.get(_KID), parameters.get(_K)
    if type(kty) is not int or type(alg) is not int or (kty, alg) != (_SYMMETRIC, A256GCM):
        raise BadRequestError("COSE key: not an AES-256-GCM key")
    if type(kid) is not bytes or type(key) is not bytes or len(key) != CONTENT_KEY_BYTES:
        raise BadRequestError("COSE key: kid or k is not as it must be")
    return kid, key


def thumbprint(key: PublicKey) -> bytes:
    """32 bytes: SHA-256 of the deterministic COSE_Key of ``key`` (RFC 9679 section 3)."""
    return hashlib.sha256(cbor.encode(encode_public(key))).digest()


def thumbprint_uri(key: PublicKey) -> str:
    """The thumbprint as ``urn:ietf:params:oauth:ckt:sha-256:...`` (RFC 9679 section 5.6)."""
    encoded = base64.urlsafe_b64encode(thumbprint(key)).rstrip(b"=").decode()
    return f"urn:ietf:params:oauth:ckt:sha-256:{encoded}"
