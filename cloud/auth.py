"""Who is asking: the name, role and key id in the client certificate of the connection.

TLS has already proved that the peer holds the key and that the ward's authority signed the
certificate. What is left: the dates, which TLS looks at only once while a connection may live for
days, and what the role may do.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.profiles import GATEWAY
from certs.verify import issued_by, kid_of, name_of, role_of
from cloud.store import Sight
from gateway.cose.envelope import Envelope, read_envelope_untrusted
from gateway.errors import ConfigError, ForbiddenError, PeerError

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import Mapping

    from cloud.config import Config
    from gateway.lane import Lane


class UnknownPeerError(PeerError):
    """HTTP 401: no certificate, or one that says nothing we know."""

    kind = "unknown_peer"


class Principal(NamedTuple):
    """One authenticated caller."""

    name: str
    role: str
    kid: bytes | None
    certificate: x509.Certificate

    def sight(self, roles: Mapping[str, frozenset[Lane]]) -> Sight:
        """What the caller may see. Raises ForbiddenError for a certificate without a key id."""
        if self.kid is None:
            raise ForbiddenError("the certificate names no sealing key (URI subjectAltName)")
        return Sight(self.kid, roles.get(self.role, frozenset()))

    def verification_key(self) -> ec.EllipticCurvePublicKey:
        """The key that signs what this caller posts. Raises ForbiddenError: not P-256."""
        key = self.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ForbiddenError("the certificate's key cannot sign (it is not P-256)")
        return key


def tls_context(config: Config) -> ssl.SSLContext:
    """TLS 1.2 or newer with a client certificate of the ward. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    problems: list[str] = []
    try:
        context.load_verify_locations(config.ca)
    except (OSError, ssl.SSLError) as error:
        problems.append(f"{config.ca}: not a certificate authority that can be read: {error}")
    try:
        context.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as error:
        problems.append(f"{config.certificate}, {config.key}: not a certificate and key: {error}")
    if problems:
        raise ConfigError(problems)
    return context


def principal_of(transport: BaseTransport | None, *, wall: float) -> Principal:
    """The caller at the other end. Raises UnknownPeerError, also for a certificate run out."""
    socket = transport.get_extra_info("ssl_object") if transport is not None else None
    der = socket.getpeercert(binary_form=True) if socket is not None else None
    if der is None:
        raise UnknownPeerError("no client certificate")
    try:
        principal = _read_certificate(der)
    except (ForbiddenError, ValueError) as error:
        raise UnknownPeerError(f"certificate not understood: {error}") from error
    certificate = principal.certificate
    if not (
        certificate.not_valid_before_utc.timestamp()
        <= wall
        <= certificate.not_valid_after_utc.timestamp()
    ):
        raise UnknownPeerError("the certificate is not valid at this date")
    return principal


@lru_cache(maxsize=256)
def _read_certificate(der: bytes) -> Principal:
    certificate = x509.load_der_x509_certificate(der)
    return Principal(name_of(certificate), role_of(certificate), kid_of(certificate), certificate)


def envelope_untrusted(
    message: bytes, *, gateway: str, epoch: bytes, ca: x509.Certificate
) -> Envelope:
    """The verified envelope of ``epoch``, made by the gateway with that name.

    The signer's certificate must have been valid when the envelope was made: envelopes wait in a
    gateway's queue for as long as the cloud is away, also over a change of its certificate.
    Raises ForbiddenError or another PeerError.
    """
    signers: list[x509.Certificate] = []
    envelope = read_envelope_untrusted(message, trust=signers.append)
    signer = signers[0]
    issued_by(signer, ca, wall=envelope.created_ms / 1000)
    if role_of(signer) != GATEWAY.role:
        raise ForbiddenError("the envelope is not signed by a gateway")
    if envelope.gateway != gateway:
        raise ForbiddenError(f"the envelope is of gateway {envelope.gateway!r}, not {gateway!r}")
    if envelope.epoch != epoch:
        raise ForbiddenError("the envelope is of another epoch")
    return envelope
