"""COSE_Sign1 with ES256 (RFC 9052 section 4.2, RFC 9053 section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec


class Signed(NamedTuple):
    """A message whose signature was verified. ``unprotected`` was not covered by it."""

    payload: bytes
    protected: dict[int | str, object]
    unprotected: dict[int | str, object]


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
    raise NotImplementedError


def verify_untrusted(
    message: bytes, public_key: ec.EllipticCurvePublicKey, *, external_aad: bytes = b""
) -> Signed:
    """Raises BadRequestError (shape) or IntegrityError (signature)."""
    raise NotImplementedError


def x5chain_untrusted(message: bytes) -> x509.Certificate:
    """The signer's certificate (header 33, RFC 9360). The signature is *not* verified here.

    Raises BadRequestError.
    """
    raise NotImplementedError
