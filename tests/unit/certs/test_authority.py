from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs import files, profiles
from certs.authority import Authority
from gateway.errors import BadRequestError, ConfigError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    P256 = ec.EllipticCurvePrivateKey

KID_URI = "urn:ietf:params:oauth:ckt:sha-256:" + "A" * 43


def subject(certificate: x509.Certificate) -> dict[str, Any]:
    return {each.rfc4514_attribute_name: each.value for each in certificate.subject}


def test_the_authority_survives_a_restart(folder: Path, authority: Authority) -> None:
    assert Authority.load(folder).certificate == authority.certificate
    assert subject(authority.certificate) == {"O": "Ward 7 Äst", "OU": "ca", "CN": "Ward 7 Äst CA"}
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600


def test_the_authority_has_nobody_below_it(authority: Authority) -> None:
    extensions = authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)


def test_there_is_one_authority(folder: Path, authority: Authority, wall: float) -> None:
    with pytest.raises(ConfigError, match="already"):
        Authority.create(folder, "another", wall=wall)
    assert files.load_certificate(folder / "ca.pem") == authority.certificate


def test_files_of_different_authorities_are_refused(tmp_path: Path, authority: Authority) -> None:
    files.write_private(tmp_path / "ca.key", files.generate())
    files.write_certificate(tmp_path / "ca.pem", authority.certificate)
    with pytest.raises(ConfigError, match=r"not the certificate of ca\.key"):
        Authority.load(tmp_path)


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=profiles.PROFILES)
def test_every_profile(
    authority: Authority, key: P256, wall: float, profile: profiles.Profile
) -> None:
    """What RFC 5280 asks of a bearer's certificate, and what the profile says."""
    found = authority.issue(profile, "Dr. Ünal", key.public_key(), wall=wall)
    assert found.version is x509.Version.v3
    assert subject(found) == {"O": "Ward 7 Äst", "OU": profile.role, "CN": "Dr. Ünal"}
    assert found.issuer == authority.certificate.subject
    assert found.public_key() == key.public_key()
    assert found.not_valid_after_utc.timestamp() == int(wall) + profile.days * 86_400
    assert found.not_valid_before_utc.timestamp() < wall
    extensions = found.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (usage.critical, usage.value.digital_signature) == (True, True)
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_agreement))
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert tuple(purposes) == profile.usages
    mine = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    theirs = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert mine == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert theirs.key_identifier == issuer.value.digest
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_alternative_names(authority: Authority, key: P256, wall: float) -> None:
    found = authority.issue(
        profiles.CLOUD_STORE,
        "cloud",
        key.public_key(),
        wall=wall,
        hosts=("localhost", "127.0.0.1", "::1", "store.ward-7.example"),
        kid_uri=KID_URI,
    )
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "store.ward-7.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [KID_URI]


def test_serial_numbers_differ(authority: Authority, key: P256, wall: float) -> None:
    """RFC 5280 section 4.1.2.2: unique, positive, at most 20 octets."""
    numbers = {
        authority.issue(profiles.ADMIN, "a", key.public_key(), wall=wall).serial_number
        for _ in range(20)
    }
    assert len(numbers) == 20
    assert all(0 < number < 2**159 for number in numbers)


def test_nothing_outlives_the_authority(authority: Authority, key: P256, wall: float) -> None:
    end = authority.certificate.not_valid_after_utc
    late = authority.issue(
        profiles.ADMIN, "a", key.public_key(), wall=(end - timedelta(days=3)).timestamp()
    )
    assert late.not_valid_after_utc == end
    with pytest.raises(UsageError, match="expired"):
        authority.issue(profiles.ADMIN, "a", key.public_key(), wall=end.timestamp())
    days = authority.issue(profiles.ADMIN, "a", key.public_key(), wall=wall, days=7)
    assert days.not_valid_after_utc.timestamp() == int(wall) + 7 * 86_400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "cannot be a name"),
        ({"name": "  "}, "cannot be a name"),
        ({"name": "a\nb"}, "cannot be a name"),
        ({"name": "a\0"}, "cannot be a name"),
        ({"name": "x" * 65}, "cannot be a name"),
        ({"days": 0}, "a day or more"),
        ({"hosts": ["a b"]}, "neither an IP address nor a DNS name"),
        ({"hosts": ["*.example"]}, "neither"),
        ({"hosts": [""]}, "neither"),
        ({"hosts": ["-a.example"]}, "neither"),
        ({"hosts": ["a..b"]}, "neither"),
        ({"hosts": [".".join(["x" * 60] * 5)]}, "neither"),
        ({"profile": profiles.DOCTOR, "hosts": ["localhost"]}, "no host names"),
        ({"public_key": ec.generate_private_key(ec.SECP384R1()).public_key()}, "P-256"),
    ],
)
def test_what_cannot_be_issued(
    authority: Authority, key: P256, wall: float, change: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {
        "profile": profiles.GATEWAY,
        "name": "gateway-1",
        "public_key": key.public_key(),
        "wall": wall,
        "hosts": (),
    }
    authority.issue(**arguments)
    with pytest.raises(UsageError, match=words):
        authority.issue(**arguments | change)


@pytest.mark.parametrize("ward", ["", "x" * 62, "a\tb"])
def test_a_ward_needs_a_name(tmp_path: Path, wall: float, ward: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        Authority.create(tmp_path, ward, wall=wall)
    assert not list(tmp_path.iterdir())


def request_of(key: Any, name: str = "Mallory", algorithm: Any = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
            ]
        )
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def test_of_a_request_only_the_key_is_taken(authority: Authority, key: P256, wall: float) -> None:
    """Neither the name, nor the role, nor the wish to be an authority."""
    found = authority.sign_request(
        profiles.DOCTOR,
        "bob",
        request_of(key, algorithm=hashes.SHA256()),
        wall=wall,
        kid_uri=KID_URI,
    )
    assert subject(found) == {"O": "Ward 7 Äst", "OU": "doctor", "CN": "bob"}
    assert found.public_key() == key.public_key()
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_requests_are_checked(authority: Authority, key: P256, wall: float) -> None:
    good = request_of(key, algorithm=hashes.SHA256())
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(Encoding.DER))
    der[der.index(b"Mallory")] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    others = [
        b"",
        b"rubbish",
        good[:100],
        forged,
        request_of(ed25519.Ed25519PrivateKey.generate()),
        request_of(ec.generate_private_key(ec.SECP384R1()), algorithm=hashes.SHA256()),
    ]
    for request in others:
        with pytest.raises(BadRequestError):
            authority.sign_request(profiles.DOCTOR, "bob", request, wall=wall)
