"""The ward's certificate authority: two files, ``ca.key`` and ``ca.pem``.

One level, no intermediates: a ward has tens of certificates, and a node keeps one anchor. Keys are
P-256 and signatures ECDSA with SHA-256, which is what constrained nodes can check (RFC 7925).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs import files
from certs.profiles import CA
from gateway.errors import BadRequestError, ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from certs.profiles import Profile

_BACKDATED = timedelta(hours=1)
"""A node whose clock is a little slow must accept a certificate that was issued just now."""

_NAME_CHARACTERS = 64
"""RFC 5280 appendix A: ub-common-name, ub-organization-name."""

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
"""A DNS name (RFC 1123 section 2.1). No wildcards: RFC 7252 section 9.1.3.3 knows none."""


class Authority:
    """Issues certificates. Made by :meth:`create` once, by :meth:`load` afterwards.

    :meth:`passing` makes one that nobody keeps.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, directory: Path, ward: str, *, wall: float) -> Authority:
        """A new authority in an existing folder, in the name of ``ward`` (O).

        Raises ConfigError, also if there is one already; UsageError for the name.
        """
        made = cls.passing(ward, wall=wall)
        files.write_private(directory / "ca.key", made._key)
        files.write_certificate(directory / "ca.pem", made.certificate)
        return made

    @classmethod
    def passing(cls, ward: str, *, wall: float) -> Authority:
        """A new authority that is in no file. Raises UsageError for the name."""
        key = files.generate()
        subject = _subject(f"{ward} CA", CA.role, ward)
        begin = _moment(wall)
        certificate = (
            _builder(subject, subject, key.public_key(), begin, begin + timedelta(days=CA.days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(_authority_key_of(key), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Raises ConfigError: missing, unreadable, or key and certificate do not match."""
        key = files.load_private(directory / "ca.key")
        certificate = files.load_certificate(directory / "ca.pem")
        if certificate.public_key() != key.public_key():
            problem = (
                f"{directory}: ca.pem is not the certificate of ca.key (restore both together)"
            )
            raise ConfigError([problem])
        return cls(key, certificate)

    def issue(
        self,
        profile: Profile,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        *,
        wall: float,
        hosts: Sequence[str] = (),
        kid_uri: str | None = None,
        days: int | None = None,
    ) -> x509.Certificate:
        """A certificate for ``name`` (CN) in the profile's role (OU).

        ``hosts``: DNS names and IP addresses of a server; ``kid_uri``: the thumbprint URI of the
        bearer's sealing key (RFC 9679). It ends no later than the authority's own certificate.
        Raises UsageError: a name, host, key or time that cannot be.
        """
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise UsageError(f"the key of {name!r} is not on P-256")
        if hosts and not profile.hosts:
            raise UsageError(f"a certificate for a {profile.role} has no host names")
        if days is not None and days < 1:
            raise UsageError("a certificate must be valid for a day or more")
        begin = _moment(wall)
        latest = self.certificate.not_valid_after_utc
        if begin >= latest:
            raise UsageError(f"the certificate of the authority expired on {latest:%Y-%m-%d}")
        end = min(begin + timedelta(days=profile.days if days is None else days), latest)
        issuer = self.certificate.subject
        ward = issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
        subject = _subject(name, profile.role, str(ward))
        alternatives = [_host(host) for host in hosts]
        if kid_uri is not None:
            alternatives.append(x509.UniformResourceIdentifier(kid_uri))
        builder = _builder(subject, issuer, public_key, begin, end)
        if alternatives:
            names = x509.SubjectAlternativeName(alternatives)
            builder = builder.add_extension(names, critical=False)
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(profile.usages), critical=False)
            .add_extension(_authority_key_of(self._key), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def sign_request(
        self,
        profile: Profile,
        name: str,
        request: bytes,
        *,
        wall: float,
        hosts: Sequence[str] = (),
        kid_uri: str | None = None,
        days: int | None = None,
    ) -> x509.Certificate:
        """As :meth:`issue`, for the key of a PEM certificate request (RFC 2986).

        Only its key is taken, after proof that the sender holds it: name and role are the
        operator's to say. Raises BadRequestError for the request, UsageError for the rest.
        """
        key = _requested_key_untrusted(request)
        return self.issue(profile, name, key, wall=wall, hosts=hosts, kid_uri=kid_uri, days=days)


def _requested_key_untrusted(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        parsed = x509.load_pem_x509_csr(request)
        key = parsed.public_key()
        proven = parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise BadRequestError("not a certificate request in PEM") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestError("certificate request: the key is not on P-256")
    if not proven:
        raise BadRequestError("certificate request: its signature is not by its own key")
    return key


def _moment(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC).replace(microsecond=0)  # X.509 counts whole seconds


def _subject(name: str, role: str, ward: str) -> x509.Name:
    for value in (name, ward):
        if not value.strip() or not value.isprintable() or len(value) > _NAME_CHARACTERS:
            limit = f"1 to {_NAME_CHARACTERS} printable characters"
            raise UsageError(f"{value!r} cannot be a name in a certificate ({limit})")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ward),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_of(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if len(host) > 253 or _HOST.fullmatch(host) is None:
            raise UsageError(f"{host!r} is neither an IP address nor a DNS name") from None
        return x509.DNSName(host)
