"""The envelope of an epoch: its content key, for the people who may read, signed by the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.cose.keys import PrivateKey, PublicKey


class Envelope(NamedTuple):
    """One epoch. ``message`` says the same, signed, and holds the wrapped content key."""

    epoch: bytes
    """16 bytes."""

    gateway: str
    patient: bytes
    """16 bytes: pseudonym."""

    lane: Lane
    created_ms: int
    readers: tuple[bytes, ...]
    """Thumbprints (``kid``) of the keys that open it."""

    message: bytes
    """COSE_Sign1 (ES256, x5chain) over the COSE_Encrypt."""


def seal_envelope(
    content_key: bytes,
    *,
    epoch: bytes,
    gateway: str,
    patient: bytes,
    lane: Lane,
    created_ms: int,
    recipients: Sequence[PublicKey],
    signing_key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    random: Callable[[int], bytes],
) -> Envelope:
    """Wrap ``content_key`` for ``recipients`` and sign. ``gateway`` is the certificate's CN.

    Raises SealError: no recipient, or wrong lengths.
    """
    raise NotImplementedError


def read_envelope_untrusted(
    message: bytes, *, trust: Callable[[x509.Certificate], None]
) -> Envelope:
    """The envelope, after ``trust`` has accepted its signer and the signature was verified.

    ``trust`` raises PeerError for a certificate that may not sign envelopes. The gateway named
    is the certificate's CN. Raises BadRequestError (shape), IntegrityError (signature, name), or
    what ``trust`` raises.
    """
    raise NotImplementedError


def open_envelope_untrusted(envelope: Envelope, private_key: PrivateKey) -> bytes:
    """The 32-byte content key, for an envelope from :func:`read_envelope_untrusted`.

    Raises BadRequestError (shape) or IntegrityError (not for this key, or does not open).
    """
    raise NotImplementedError
