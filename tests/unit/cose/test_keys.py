from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from gateway.cose import cbor, keys
from gateway.errors import BadRequestError, SealError

RFC9679_X = "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"
RFC9679_Y = "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
RFC9679_THUMBPRINT = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
"""The example of RFC 9679 section 6."""


def ec2(**changes: object) -> dict[Any, Any]:
    parameters: dict[Any, Any] = {1: 2, -1: 1}
    parameters |= {-2: bytes.fromhex(RFC9679_X), -3: bytes.fromhex(RFC9679_Y)}
    return parameters | {
        int(label.lstrip("l").replace("m", "-")): v for label, v in changes.items()
    }


def test_thumbprint_of_the_rfc() -> None:
    """Other parameters (the kid) do not enter it."""
    key = keys.decode_public_untrusted(ec2(l2=b"meriadoc.brandybuck@buckland.example"))
    assert keys.thumbprint(key).hex() == RFC9679_THUMBPRINT
    assert keys.thumbprint_uri(key) == (
        "urn:ietf:params:oauth:ckt:sha-256:SWvYr63zB-WwjGSwQhv53AFSijRKQ72oj63RZp2iU-w"
    )


def test_a_compressed_point_is_the_same_key() -> None:
    """y as a bool (RFC 9053 section 7.1.1)."""
    even = int(RFC9679_Y, 16) % 2 == 0
    whole = keys.decode_public_untrusted(ec2())
    assert keys.decode_public_untrusted(ec2(lm3=not even)) == whole
    assert keys.decode_public_untrusted(ec2(lm3=even)) != whole


def test_x25519_round_trip() -> None:
    key = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    encoded = keys.encode_public(key)
    assert encoded == {1: 1, -1: 4, -2: key.public_bytes_raw()}
    assert keys.decode_public_untrusted(encoded) == key


def test_coordinates_keep_their_leading_zeros() -> None:
    """RFC 9053 section 7.1.1: always as long as the field."""
    scalar = next(
        number
        for number in range(1, 5000)
        if ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers().x < 2**248
    )
    key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    encoded = keys.encode_public(key)
    assert encoded[-2] == key.public_numbers().x.to_bytes(32, "big")
    assert keys.decode_public_untrusted(encoded) == key


@pytest.mark.parametrize(
    "parameters",
    [
        ec2(lm3=bytes.fromhex(RFC9679_X)),  # not on the curve
        ec2(lm2=bytes(32), lm3=bytes(32)),
        ec2(lm2=b"\xff" * 32, lm3=True),
        ec2(lm2=bytes.fromhex(RFC9679_X)[1:]),
        ec2(lm3=bytes.fromhex(RFC9679_Y) + b"\0"),
        ec2(lm3=1),
        ec2(lm3=None),
        ec2(lm1=2),  # P-384
        ec2(lm1=True),
        ec2(l1=2.0),
        ec2(l1=1),
        ec2(lm4=bytes(32)),  # the private part
        {1: 1, -1: 4, -2: b"\xff" * 32},  # not reduced
        {1: 1, -1: 4, -2: (2**255 - 19).to_bytes(32, "little")},
        {1: 1, -1: 6, -2: bytes(32)},  # Ed25519
        {1: 1, -1: 4},
        {},
        [],
        b"",
    ],
)
def test_what_is_not_a_public_key_is_refused(parameters: object) -> None:
    with pytest.raises(BadRequestError):
        keys.decode_public_untrusted(parameters)


def test_other_curves_are_not_encoded() -> None:
    with pytest.raises(SealError):
        keys.encode_public(ec.derive_private_key(5, ec.SECP384R1()).public_key())
    assert not keys.is_p256(ec.derive_private_key(5, ec.SECP384R1()).public_key())


def test_symmetric_round_trip() -> None:
    key = bytes(range(32))
    encoded = keys.encode_symmetric(key, kid=b"epoch")
    assert cbor.decode_untrusted(encoded) == {1: 4, 2: b"epoch", 3: 3, -1: key}
    assert keys.decode_symmetric_untrusted(encoded) == (b"epoch", key)
    with pytest.raises(SealError):
        keys.encode_symmetric(key[1:], kid=b"epoch")


@pytest.mark.parametrize(
    "change", [{1: 2}, {3: 1}, {3: 3.0}, {-1: bytes(16)}, {-1: "k"}, {2: 7}, {1: None}]
)
def test_what_is_not_a_content_key_is_refused(change: dict[int, object]) -> None:
    parameters = {1: 4, 2: b"epoch", 3: 3, -1: bytes(32)} | change
    with pytest.raises(BadRequestError):
        keys.decode_symmetric_untrusted(cbor.encode(parameters))
