"""Who may shake hands: what the DTLS room asks of whoever keeps the devices."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec


class PreSharedKey(NamedTuple):
    """The key of one identity."""

    device: str
    """The device's id: what the association stands for."""
    key: bytes


class Identity(NamedTuple):
    """One side of a handshake with certificates: who we are, and whom we believe."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    authority: x509.Certificate
    """The only issuer that is accepted on the other side."""


class Refusal(Enum):
    """Why a certificate that the ward's authority has issued does not let its bearer in."""

    WRONG_ROLE = "of another role"
    WITHDRAWN = "revoked or replaced"


class Credentials(Protocol):
    """Looked up during handshakes, from the event loop: answers at once, from memory."""

    def psk(self, identity: bytes) -> PreSharedKey | None:
        """The key for an identity as it came over the wire; None if unknown or revoked."""
        ...

    def bearer(self, certificate: x509.Certificate) -> str | Refusal:
        """The id of the device that bears a certificate.

        Issuer, signature, dates and key usage have been checked; whether the device may come has
        not.
        """
        ...
