"""COSE_Key (RFC 9052 section 7, RFC 9053 section 7) and its thumbprint (RFC 9679)."""

from __future__ import annotations

from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, x25519

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | x25519.X25519PublicKey
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey


def encode_public(key: PublicKey) -> dict[int, int | bytes]:
    """The COSE_Key map of a P-256 or X25519 public key: its required parameters, no others.

    Raises SealError for a key on another curve.
    """
    raise NotImplementedError


def decode_public_untrusted(key: object) -> PublicKey:
    """The public key of a decoded COSE_Key map. ``y`` may be a bool (compressed point).

    Raises BadRequestError: not a map of a P-256 or X25519 public key, or not on the curve.
    """
    raise NotImplementedError


def encode_symmetric(key: bytes, *, kid: bytes) -> bytes:
    """A COSE_Key of a 32-byte AES-256-GCM key under the name ``kid``, deterministic CBOR."""
    raise NotImplementedError


def decode_symmetric_untrusted(data: bytes) -> tuple[bytes, bytes]:
    """``(kid, key)`` of a COSE_Key as :func:`encode_symmetric` makes it.

    Raises BadRequestError.
    """
    raise NotImplementedError


def thumbprint(key: PublicKey) -> bytes:
    """32 bytes: SHA-256 of the deterministic COSE_Key of ``key`` (RFC 9679 section 3)."""
    raise NotImplementedError


def thumbprint_uri(key: PublicKey) -> str:
    """The thumbprint as ``urn:ietf:params:oauth:ckt:sha-256:...`` (RFC 9679 section 5.6)."""
    raise NotImplementedError
