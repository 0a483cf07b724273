"""Keys that are the same in every run, and a certificate for one of them."""

from __future__ import annotations

import datetime
import random
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def randomness() -> Callable[[int], bytes]:
    return random.Random(9052).randbytes


@pytest.fixture(scope="session")
def signer() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x1001, ec.SECP256R1())


@pytest.fixture(scope="session")
def reader() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x2002, ec.SECP256R1())


@pytest.fixture(scope="session")
def reader_x25519() -> x25519.X25519PrivateKey:
    return x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(scope="session")
def certificate(signer: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Self-signed, CN=gateway-1: who vouches for it is not this room's concern."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway-1")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=365))
        .sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
    )
