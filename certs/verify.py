"""What a certificate of this ward says, and whether to believe it."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.profiles import PROFILES
from gateway.errors import ForbiddenError

if TYPE_CHECKING:
    from cryptography.x509 import ObjectIdentifier

_KID_URI = "urn:ietf:params:oauth:ckt:sha-256:"
"""RFC 9679 section 5.6."""

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)
"""What the library raises for a part of a certificate that it cannot decode, when it is asked."""


def issued_by(certificate: x509.Certificate, ca: x509.Certificate, *, wall: float) -> None:
    """Accept a certificate that ``ca`` issued, valid at ``wall``, for one of the known roles.

    For something signed earlier, ``wall`` is the time of the signature. Raises ForbiddenError.
    """
    try:
        certificate.verify_directly_issued_by(ca)
        key, digest = certificate.public_key(), certificate.signature_hash_algorithm
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (*_UNREADABLE, InvalidSignature, x509.ExtensionNotFound) as exc:
        raise ForbiddenError("certificate: not issued by this ward's authority") from exc
    if constraints.value.ca:
        raise ForbiddenError("certificate: an authority's, not a bearer's")
    # The level of security at which OpenSSL is run for old nodes would accept weaker ones.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ForbiddenError("certificate: its key is not on P-256")
    if not isinstance(digest, hashes.SHA256):
        raise ForbiddenError("certificate: not signed with SHA-256")
    if wall < certificate.not_valid_before_utc.timestamp():
        raise ForbiddenError("certificate: not valid yet (is the clock right?)")
    if wall >= certificate.not_valid_after_utc.timestamp() + 1:
        raise ForbiddenError("certificate: expired")
    if role_of(certificate) not in PROFILES:
        raise ForbiddenError("certificate: of no role that is known here")


def role_of(certificate: x509.Certificate) -> str:
    """The subject's OU. Raises ForbiddenError unless there is exactly one."""
    return _only(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, "OU")


def name_of(certificate: x509.Certificate) -> str:
    """The subject's CN. Raises ForbiddenError unless there is exactly one."""
    return _only(certificate, NameOID.COMMON_NAME, "CN")


def kid_of(certificate: x509.Certificate) -> bytes | None:
    """The 32-byte thumbprint of the bearer's sealing key, if the certificate names one.

    Raises ForbiddenError: malformed, or several.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except _UNREADABLE as exc:
        raise ForbiddenError("certificate: its extensions cannot be read") from exc
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = [uri.removeprefix(_KID_URI) for uri in uris if uri.startswith(_KID_URI)]
    if not found:
        return None
    if len(found) > 1:
        raise ForbiddenError("certificate: names several sealing keys")
    try:
        kid = base64.b64decode(found[0] + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ForbiddenError("certificate: the name of its sealing key is malformed") from exc
    if len(kid) != hashes.SHA256.digest_size:
        raise ForbiddenError("certificate: the name of its sealing key is malformed")
    return kid


def _only(certificate: x509.Certificate, oid: ObjectIdentifier, what: str) -> str:
    try:
        values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    except _UNREADABLE as exc:
        raise ForbiddenError("certificate: its subject cannot be read") from exc
    if len(values) != 1 or not isinstance(values[0], str):
        raise ForbiddenError(f"certificate: there must be one {what}")
    return values[0]
