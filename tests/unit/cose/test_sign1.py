from __future__ import annotations

from typing import TYPE_CHECKING

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cose import sign1
from gateway.cose.keys import decode_public_untrusted
from gateway.errors import BadRequestError, IntegrityError, PeerError, SealError

if TYPE_CHECKING:
    from cryptography import x509

    P256 = ec.EllipticCurvePrivateKey

RFC9052_C_2_1 = bytes.fromhex(
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34"
    "cc6b23d58fef5c083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c3"
    "45cacb36"
)
"""RFC 9052 appendix C.2.1, "Single ECDSA Signature"."""

RFC9052_KEY_11 = {
    1: 2,
    -1: 1,
    -2: bytes.fromhex("bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"),
    -3: bytes.fromhex("20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"),
}
"""RFC 9052 appendix C.7.1, the public key called "11"."""


def test_the_example_of_the_rfc_verifies() -> None:
    key = decode_public_untrusted(RFC9052_KEY_11)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    payload, protected, unprotected = sign1.verify_untrusted(RFC9052_C_2_1, key)
    assert payload == b"This is the content."
    assert (protected, unprotected) == ({1: -7}, {4: b"11"})
    with pytest.raises(IntegrityError):
        sign1.verify_untrusted(RFC9052_C_2_1, key, external_aad=b"\x11")


def test_round_trip_with_every_part(signer: P256) -> None:
    message = sign1.sign(
        signer, b"payload", external_aad=b"bound", protected={16: "type"}, unprotected={4: b"me"}
    )
    key = signer.public_key()
    assert sign1.verify_untrusted(message, key, external_aad=b"bound") == (
        b"payload",
        {1: -7, 16: "type"},
        {4: b"me"},
    )
    assert message == cbor2.dumps(cbor2.loads(message), canonical=True)


def test_signatures_are_deterministic(signer: P256) -> None:
    """RFC 6979: no randomness that could be bad."""
    assert sign1.sign(signer, b"x") == sign1.sign(signer, b"x")


def test_short_numbers_are_padded(signer: P256) -> None:
    """r and s are 32 bytes each, also when one begins with zeros (RFC 9053 section 2.1)."""
    found = 0
    for number in range(600):
        message = sign1.sign(signer, number.to_bytes(2, "big"))
        found += message[-64] == 0 or message[-32] == 0
        sign1.verify_untrusted(message, signer.public_key())
    assert found


def test_the_algorithm_cannot_be_replaced(signer: P256) -> None:
    message = sign1.sign(signer, b"", protected={1: -8})
    assert sign1.verify_untrusted(message, signer.public_key()).protected == {1: -7}


def test_other_curves_neither_sign_nor_verify(signer: P256) -> None:
    other = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(SealError):
        sign1.sign(other, b"")
    with pytest.raises(IntegrityError, match="not on P-256"):
        sign1.verify_untrusted(sign1.sign(signer, b""), other.public_key())


def test_a_flipped_bit_anywhere_does_not_verify(signer: P256) -> None:
    original = sign1.sign(signer, b"payload", protected={16: "type"})
    for position in range(len(original) * 8):
        flipped = bytearray(original)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(PeerError):
            sign1.verify_untrusted(bytes(flipped), signer.public_key())


def test_other_shapes_are_refused(signer: P256) -> None:
    items = cbor2.loads(sign1.sign(signer, b"payload")).value
    others = [
        cbor2.dumps(items),  # no tag
        cbor2.dumps(cbor2.CBORTag(98, items)),
        cbor2.dumps(cbor2.CBORTag(18, items[:3])),
        cbor2.dumps(cbor2.CBORTag(18, [*items[:2], None, items[3]])),  # detached
        cbor2.dumps(cbor2.CBORTag(18, [*items[:3], items[3][:-1]])),
        cbor2.dumps(cbor2.CBORTag(18, [b"", {1: -7}, *items[2:]])),
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps({1: -8}), *items[1:]])),
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps({1: -35}), *items[1:]])),
        cbor2.dumps(cbor2.CBORTag(18, items)) + b"\0",
    ]
    for other in others:
        with pytest.raises(BadRequestError):
            sign1.verify_untrusted(other, signer.public_key())


def test_a_signature_of_zeros_does_not_verify(signer: P256) -> None:
    items = cbor2.loads(sign1.sign(signer, b"payload")).value
    for signature in (bytes(64), b"\xff" * 64, bytes(63) + b"\1"):
        message = cbor2.dumps(cbor2.CBORTag(18, [*items[:3], signature]))
        with pytest.raises(IntegrityError):
            sign1.verify_untrusted(message, signer.public_key())


@pytest.mark.parametrize("bucket", ["protected", "unprotected"])
def test_the_signer_shows_its_certificate(
    signer: P256, certificate: x509.Certificate, bucket: str
) -> None:
    """RFC 9360 allows either bucket."""
    header = {33: certificate.public_bytes(Encoding.DER)}
    message = sign1.sign(signer, b"", **{bucket: header})
    assert sign1.x5chain_untrusted(message) == certificate


@pytest.mark.parametrize("value", [None, b"", b"no certificate", [b"one"], "text"])
def test_what_is_not_a_certificate_is_refused(signer: P256, value: object) -> None:
    message = sign1.sign(signer, b"", protected={} if value is None else {33: value})
    with pytest.raises(BadRequestError):
        sign1.x5chain_untrusted(message)
