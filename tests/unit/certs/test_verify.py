from __future__ import annotations

import base64
import contextlib
import datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs import files, profiles, verify
from certs.authority import Authority
from gateway.errors import ForbiddenError, PeerError

if TYPE_CHECKING:
    from pathlib import Path

    P256 = ec.EllipticCurvePrivateKey

KID = bytes(range(32))
PREFIX = "urn:ietf:params:oauth:ckt:sha-256:"
KID_URI = PREFIX + base64.urlsafe_b64encode(KID).rstrip(b"=").decode()


@pytest.fixture
def certificate(authority: Authority, key: P256, wall: float) -> x509.Certificate:
    return authority.issue(profiles.DOCTOR, "alice", key.public_key(), wall=wall, kid_uri=KID_URI)


def made(
    ca_key: Any,
    ca: x509.Certificate,
    key: Any,
    *,
    names: tuple[tuple[x509.ObjectIdentifier, str], ...] = (
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "doctor"),
        (NameOID.COMMON_NAME, "alice"),
    ),
    authority: bool | None = False,
    digest: Any = None,
    uris: tuple[str, ...] = (),
) -> x509.Certificate:
    """A certificate that our own authority would not make."""
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        ca.subject,
        x509.Name([x509.NameAttribute(oid, value) for oid, value in names]),
        key.public_key(),
        7,
        begin,
        begin + datetime.timedelta(days=730),
    )
    if authority is not None:
        constraints = x509.BasicConstraints(ca=authority, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    if uris:
        alternatives = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(uri) for uri in uris]
        )
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(ca_key, digest or hashes.SHA256())


def test_what_a_certificate_says(
    certificate: x509.Certificate, authority: Authority, wall: float
) -> None:
    verify.issued_by(certificate, authority.certificate, wall=wall)
    assert verify.role_of(certificate) == "doctor"
    assert verify.name_of(certificate) == "alice"
    assert verify.kid_of(certificate) == KID


def test_without_a_sealing_key_there_is_no_kid(
    authority: Authority, key: P256, wall: float
) -> None:
    plain = authority.issue(profiles.GATEWAY, "g", key.public_key(), wall=wall)
    hosts = authority.issue(profiles.GATEWAY, "g", key.public_key(), wall=wall, hosts=["g.example"])
    assert verify.kid_of(plain) is None
    assert verify.kid_of(hosts) is None


def test_validity(certificate: x509.Certificate, authority: Authority) -> None:
    """Both ends included, to the second (RFC 5280 section 4.1.2.5)."""
    begin = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    for wall in (begin, end, end + 0.5):
        verify.issued_by(certificate, authority.certificate, wall=wall)
    with pytest.raises(ForbiddenError, match="not valid yet"):
        verify.issued_by(certificate, authority.certificate, wall=begin - 0.5)
    with pytest.raises(ForbiddenError, match="expired"):
        verify.issued_by(certificate, authority.certificate, wall=end + 1)


def test_another_authority_of_the_same_name(
    tmp_path: Path, certificate: x509.Certificate, wall: float
) -> None:
    impostor = Authority.create(tmp_path, "Ward 7 Äst", wall=wall)
    with pytest.raises(ForbiddenError, match="not issued by"):
        verify.issued_by(certificate, impostor.certificate, wall=wall)


def test_the_authority_is_no_bearer(authority: Authority, wall: float) -> None:
    with pytest.raises(ForbiddenError, match="authority's"):
        verify.issued_by(authority.certificate, authority.certificate, wall=wall)


def test_a_bearer_cannot_issue(
    certificate: x509.Certificate, authority: Authority, key: P256, wall: float
) -> None:
    """There are no intermediates: a doctor's certificate makes no gateway's."""
    forged = made(key, certificate, key)
    with pytest.raises(ForbiddenError):
        verify.issued_by(forged, authority.certificate, wall=wall)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ((NameOID.ORGANIZATIONAL_UNIT_NAME, "king"),)}, "of no role"),
        ({"names": ((NameOID.COMMON_NAME, "alice"),)}, "one OU"),
        (
            {
                "names": (
                    (NameOID.ORGANIZATIONAL_UNIT_NAME, "doctor"),
                    (NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
                )
            },
            "one OU",
        ),
        ({"authority": True}, "authority's"),
        ({"authority": None}, "not issued by"),
        ({"digest": hashes.SHA384()}, "SHA-256"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "P-256"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "P-256"),
    ],
)
def test_signed_by_the_authority_but_not_by_our_rules(
    folder: Path, authority: Authority, wall: float, change: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"key": files.generate()} | change
    odd = made(files.load_private(folder / "ca.key"), authority.certificate, **arguments)
    with pytest.raises(ForbiddenError, match=words):
        verify.issued_by(odd, authority.certificate, wall=wall)


@pytest.mark.parametrize(
    "uris",
    [(KID_URI, KID_URI), (PREFIX,), (PREFIX + "AAAA",), (KID_URI + "A",), (PREFIX + "*" * 43,)],
)
def test_a_malformed_kid_is_refused(
    folder: Path, authority: Authority, key: P256, uris: tuple[str, ...]
) -> None:
    ca_key = files.load_private(folder / "ca.key")
    odd = made(ca_key, authority.certificate, key, uris=uris)
    with pytest.raises(ForbiddenError):
        verify.kid_of(odd)


def test_names_must_be_single(folder: Path, authority: Authority, key: P256) -> None:
    names = ((NameOID.COMMON_NAME, "a"), (NameOID.COMMON_NAME, "b"))
    odd = made(files.load_private(folder / "ca.key"), authority.certificate, key, names=names)
    with pytest.raises(ForbiddenError, match="one CN"):
        verify.name_of(odd)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_damaged_certificates_are_refused(
    certificate: x509.Certificate, authority: Authority, wall: float
) -> None:
    """Every bit of what is signed. Around it, the library overlooks bits of padding that change
    nothing (X.690 section 8.6.2.2); whatever it is, PeerError is all that is raised."""
    original = certificate.public_bytes(Encoding.DER)
    checked = 0
    for position in range(len(original) * 8):
        damaged = bytearray(original)
        damaged[position // 8] ^= 1 << position % 8
        try:
            found = x509.load_der_x509_certificate(bytes(damaged))
        except (ValueError, x509.InvalidVersion):
            continue
        accepted = False
        with contextlib.suppress(PeerError):
            verify.issued_by(found, authority.certificate, wall=wall)
            accepted = True
        assert not accepted or found.tbs_certificate_bytes == certificate.tbs_certificate_bytes
        checked += not accepted
        for read in (verify.role_of, verify.name_of, verify.kid_of):
            with contextlib.suppress(PeerError):
                read(found)
    assert checked > 1000
