from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cose import cbor, encrypt, envelope, keys, sign1
from gateway.errors import BadRequestError, ForbiddenError, IntegrityError, PeerError, SealError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    P256 = ec.EllipticCurvePrivateKey

CONTENT_KEY = bytes(range(32))
EPOCH = b"epoch-0123456789"
PATIENT = b"pseudonym-456789"
TYPE = "application/vnd.ward-gateway.envelope+cose"


@pytest.fixture
def sealed(
    signer: P256,
    reader: P256,
    reader_x25519: x25519.X25519PrivateKey,
    certificate: x509.Certificate,
    randomness: Callable[[int], bytes],
) -> envelope.Envelope:
    return envelope.seal_envelope(
        CONTENT_KEY,
        epoch=EPOCH,
        gateway="gateway-1",
        patient=PATIENT,
        lane=Lane.ROUTINE,
        created_ms=1_790_000_000_000,
        recipients=[reader.public_key(), reader_x25519.public_key()],
        signing_key=signer,
        certificate=certificate,
        random=randomness,
    )


def anybody(_: x509.Certificate) -> None:
    """For tests of what comes after trust."""


def resigned(sealed: envelope.Envelope, signer: P256, changes: dict[Any, Any]) -> bytes:
    """The same payload under changed headers, signed in order; None removes one."""
    payload, protected, _ = sign1.verify_untrusted(sealed.message, signer.public_key())
    headers = dict(protected) | changes
    headers = {label: value for label, value in headers.items() if value is not None}
    return sign1.sign(signer, payload, protected=headers)


def test_every_reader_opens_what_was_sealed(
    sealed: envelope.Envelope, reader: P256, reader_x25519: x25519.X25519PrivateKey, signer: P256
) -> None:
    found = envelope.read_envelope_untrusted(sealed.message, trust=anybody)
    assert found == sealed
    assert found.readers == (
        keys.thumbprint(reader.public_key()),
        keys.thumbprint(reader_x25519.public_key()),
    )
    for key in (reader, reader_x25519):
        assert envelope.open_envelope_untrusted(found, key) == CONTENT_KEY
    with pytest.raises(IntegrityError):
        envelope.open_envelope_untrusted(found, signer)


def test_trust_is_asked_about_the_signer(
    sealed: envelope.Envelope, certificate: x509.Certificate
) -> None:
    seen = []

    def nobody(shown: x509.Certificate) -> None:
        seen.append(shown)
        raise ForbiddenError("not ours")

    with pytest.raises(ForbiddenError, match="not ours"):
        envelope.read_envelope_untrusted(sealed.message, trust=nobody)
    assert seen == [certificate]


def test_a_flipped_bit_anywhere_does_not_open(
    sealed: envelope.Envelope, reader: P256, certificate: x509.Certificate
) -> None:
    """One bit of each byte; the certificate is the only thing that is trusted beforehand."""

    def only_this(shown: x509.Certificate) -> None:
        if shown != certificate:
            raise ForbiddenError("another certificate")

    for position in range(len(sealed.message)):
        flipped = bytearray(sealed.message)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(PeerError):
            envelope.open_envelope_untrusted(
                envelope.read_envelope_untrusted(bytes(flipped), trust=only_this), reader
            )


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": b"other-0123456789"},
        {"patient": b"other-0123456789"},
        {"lane": Lane.EMERGENCY},
        {"created_ms": 0},
        {"readers": ()},
    ],
)
def test_an_envelope_must_be_what_its_message_says(
    sealed: envelope.Envelope, reader: P256, change: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError, match="says something else"):
        envelope.open_envelope_untrusted(sealed._replace(**change), reader)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": b"other-0123456789"},
        {"patient": b"other-0123456789"},
        {"lane": "emergency"},
        {"created_ms": 0},
        {"readers": [bytes(32)]},
    ],
)
def test_the_content_key_is_bound_to_its_facts(
    sealed: envelope.Envelope, signer: P256, reader: P256, change: dict[Any, Any]
) -> None:
    """A signer that puts other facts around the same COSE_Encrypt gets nothing opened."""
    message = resigned(sealed, signer, change)
    lifted = envelope.read_envelope_untrusted(message, trust=anybody)
    with pytest.raises(IntegrityError):
        envelope.open_envelope_untrusted(lifted, reader)


def test_the_gateway_is_the_one_in_the_certificate(sealed: envelope.Envelope, signer: P256) -> None:
    message = resigned(sealed, signer, {"gateway": "gateway-2"})
    with pytest.raises(IntegrityError, match="another than the gateway"):
        envelope.read_envelope_untrusted(message, trust=anybody)


@pytest.mark.parametrize(
    "change",
    [
        {16: None},
        {16: "application/vnd.ward-gateway.batch+cose"},
        {33: None},
        {"epoch": b"short"},
        {"epoch": None},
        {"gateway": None},
        {"gateway": "x" * 257},
        {"patient": "text"},
        {"lane": "urgent"},
        {"created_ms": -1},
        {"created_ms": 1.0},
        {"created_ms": True},
        {"readers": []},
        {"readers": [b"short"]},
        {"readers": [bytes(32)] * (encrypt.MAX_RECIPIENTS + 1)},
        {"readers": bytes(32)},
    ],
)
def test_signed_rubbish_is_refused(
    sealed: envelope.Envelope, signer: P256, change: dict[Any, Any]
) -> None:
    with pytest.raises(BadRequestError):
        envelope.read_envelope_untrusted(resigned(sealed, signer, change), trust=anybody)


def test_the_key_of_another_epoch_is_refused(
    sealed: envelope.Envelope,
    signer: P256,
    reader: P256,
    certificate: x509.Certificate,
    randomness: Callable[[int], bytes],
) -> None:
    """The COSE_Key inside names its epoch too."""
    bound = [sealed.gateway, EPOCH, PATIENT, "routine", sealed.created_ms, list(sealed.readers)]
    payload = encrypt.encrypt(
        keys.encode_symmetric(CONTENT_KEY, kid=b"other-0123456789"),
        [reader.public_key()],
        external_aad=cbor.encode(bound),
        random=randomness,
    )
    protected: dict[int | str, object] = {
        **sign1.verify_untrusted(sealed.message, signer.public_key()).protected,
        33: certificate.public_bytes(Encoding.DER),
    }
    message = sign1.sign(signer, payload, protected=protected)
    with pytest.raises(IntegrityError, match="another epoch"):
        envelope.open_envelope_untrusted(
            envelope.read_envelope_untrusted(message, trust=anybody), reader
        )


@pytest.mark.parametrize(
    "change",
    [{"epoch": b""}, {"patient": b""}, {"recipients": []}, {"content_key": bytes(16)}],
)
def test_what_cannot_be_sealed(
    signer: P256,
    reader: P256,
    certificate: x509.Certificate,
    randomness: Callable[[int], bytes],
    change: dict[str, Any],
) -> None:
    arguments: dict[str, Any] = {
        "content_key": CONTENT_KEY,
        "epoch": EPOCH,
        "gateway": "gateway-1",
        "patient": PATIENT,
        "lane": Lane.ROUTINE,
        "created_ms": 0,
        "recipients": [reader.public_key()],
        "signing_key": signer,
        "certificate": certificate,
        "random": randomness,
    }
    envelope.seal_envelope(**arguments)
    with pytest.raises(SealError):
        envelope.seal_envelope(**arguments | change)
