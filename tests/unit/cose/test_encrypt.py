from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from gateway.cose import encrypt, keys
from gateway.errors import BadRequestError, IntegrityError, PeerError, SealError

if TYPE_CHECKING:
    from collections.abc import Callable

    Random = Callable[[int], bytes]
    P256 = ec.EllipticCurvePrivateKey


def parts_of(message: bytes) -> list[Any]:
    """What the tag encloses; within a tag cbor2 would make it immutable."""
    assert message[:2] == b"\xd8\x60"
    parts: list[Any] = cbor2.loads(message[2:])
    return parts


def tagged(parts: list[Any]) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(96, parts))


def test_every_recipient_opens_and_nobody_else(
    reader: P256, reader_x25519: x25519.X25519PrivateKey, signer: P256, randomness: Random
) -> None:
    """P-256 and X25519 in one message."""
    people = [reader.public_key(), reader_x25519.public_key()]
    message = encrypt.encrypt(b"key", people, external_aad=b"bound", random=randomness)
    for key in (reader, reader_x25519):
        assert encrypt.decrypt_untrusted(message, key, external_aad=b"bound") == b"key"
        with pytest.raises(IntegrityError):
            encrypt.decrypt_untrusted(message, key, external_aad=b"")
    with pytest.raises(IntegrityError, match="not for this key"):
        encrypt.decrypt_untrusted(message, signer, external_aad=b"bound")


def test_nothing_is_used_twice(reader: P256, randomness: Random) -> None:
    """Each message has its own content key, IV and ephemeral key."""
    people = [reader.public_key(), reader.public_key()]
    messages = [
        cbor2.loads(encrypt.encrypt(b"key", people, external_aad=b"", random=randomness)).value
        for _ in range(2)
    ]
    ivs = {message[1][5] for message in messages}
    ephemeral = {each[1][-1][-2] for message in messages for each in message[3]}
    assert (len(ivs), len(ephemeral)) == (2, 4)


def test_headers_are_those_of_the_rfc(reader: P256, randomness: Random) -> None:
    message = encrypt.encrypt(
        b"key", [reader.public_key()], external_aad=b"", random=randomness, protected={3: 101}
    )
    tag = cbor2.loads(message)
    protected, unprotected, _, recipients = tag.value
    assert (tag.tag, cbor2.loads(protected), list(unprotected)) == (96, {1: 3, 3: 101}, [5])
    ((protected, unprotected, wrapped),) = recipients
    assert cbor2.loads(protected) == {1: -31}
    assert unprotected[4] == keys.thumbprint(reader.public_key())
    assert unprotected[-1].keys() == {1, -1, -2, -3}
    assert len(wrapped) == 40
    assert message == cbor2.dumps(tag, canonical=True)


def test_a_compressed_ephemeral_key_opens(reader: P256, randomness: Random) -> None:
    message = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=randomness)
    parts = parts_of(message)
    ephemeral = parts[3][0][1][-1]
    ephemeral[-3] = bool(ephemeral[-3][-1] & 1)
    assert encrypt.decrypt_untrusted(tagged(parts), reader, external_aad=b"") == b"k"


def test_a_recipient_may_be_known_by_another_name(reader: P256, randomness: Random) -> None:
    message = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=randomness)
    parts = parts_of(message)
    parts[3][0][1][4] = b"desk-7"
    renamed = tagged(parts)
    assert encrypt.decrypt_untrusted(renamed, reader, external_aad=b"", kid=b"desk-7") == b"k"
    with pytest.raises(IntegrityError):
        encrypt.decrypt_untrusted(renamed, reader, external_aad=b"")


@pytest.mark.parametrize("count", [0, encrypt.MAX_RECIPIENTS + 1])
def test_recipients_are_counted(reader: P256, randomness: Random, count: int) -> None:
    with pytest.raises(SealError):
        encrypt.encrypt(b"", [reader.public_key()] * count, external_aad=b"", random=randomness)


def test_a_flipped_bit_anywhere_does_not_open(reader: P256, randomness: Random) -> None:
    original = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=randomness)
    for position in range(len(original) * 8):
        flipped = bytearray(original)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(PeerError):
            encrypt.decrypt_untrusted(bytes(flipped), reader, external_aad=b"")


def other_algorithm(parts: list[Any]) -> None:
    parts[3][0][0] = cbor2.dumps({1: -29})


def unprotected_algorithm(parts: list[Any]) -> None:
    parts[3][0][0] = b""
    parts[3][0][1][1] = -31


def other_content_algorithm(parts: list[Any]) -> None:
    parts[0] = cbor2.dumps({1: 1})


def no_ephemeral_key(parts: list[Any]) -> None:
    del parts[3][0][1][-1]


def short_wrapped_key(parts: list[Any]) -> None:
    parts[3][0][2] = bytes(24)


def nested_recipient(parts: list[Any]) -> None:
    parts[3][0].append([])


def no_recipient(parts: list[Any]) -> None:
    parts[3] = []


def many_recipients(parts: list[Any]) -> None:
    parts[3] *= encrypt.MAX_RECIPIENTS + 1


@pytest.mark.parametrize(
    "change",
    [
        other_algorithm,
        unprotected_algorithm,
        other_content_algorithm,
        no_ephemeral_key,
        short_wrapped_key,
        nested_recipient,
        no_recipient,
        many_recipients,
    ],
)
def test_other_shapes_are_refused(
    reader: P256, randomness: Random, change: Callable[[list[Any]], None]
) -> None:
    message = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=randomness)
    parts = parts_of(message)
    change(parts)
    with pytest.raises(BadRequestError):
        encrypt.decrypt_untrusted(tagged(parts), reader, external_aad=b"")


def test_nothing_may_follow(reader: P256, randomness: Random) -> None:
    message = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=randomness)
    for other in (message + b"\0", message[:-1], message[2:]):
        with pytest.raises(BadRequestError):
            encrypt.decrypt_untrusted(other, reader, external_aad=b"")


def test_a_recipient_named_twice_is_refused(reader: P256, randomness: Random) -> None:
    people = [reader.public_key()] * 2
    message = encrypt.encrypt(b"k", people, external_aad=b"", random=randomness)
    with pytest.raises(IntegrityError):
        encrypt.decrypt_untrusted(message, reader, external_aad=b"")


def test_an_ephemeral_key_of_another_curve_does_not_open(
    reader: P256, reader_x25519: x25519.X25519PrivateKey, randomness: Random
) -> None:
    for mine, other in ((reader, reader_x25519), (reader_x25519, reader)):
        message = encrypt.encrypt(b"k", [mine.public_key()], external_aad=b"", random=randomness)
        parts = parts_of(message)
        parts[3][0][1][-1] = keys.encode_public(other.public_key())
        with pytest.raises(IntegrityError):
            encrypt.decrypt_untrusted(tagged(parts), mine, external_aad=b"")


@pytest.mark.parametrize("u", [0, 1])
def test_a_point_of_low_order_does_not_open(
    reader_x25519: x25519.X25519PrivateKey, randomness: Random, u: int
) -> None:
    """RFC 7748 section 6.1: the shared secret would be zero for everybody."""
    people = [reader_x25519.public_key()]
    parts = parts_of(encrypt.encrypt(b"k", people, external_aad=b"", random=randomness))
    parts[3][0][1][-1][-2] = u.to_bytes(32, "little")
    with pytest.raises(IntegrityError):
        encrypt.decrypt_untrusted(tagged(parts), reader_x25519, external_aad=b"")


def test_the_library_knows_the_order_of_p256() -> None:
    """The largest scalar that `encrypt` may draw is a key, one more is not."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    ec.derive_private_key(order - 1, ec.SECP256R1())
    with pytest.raises(ValueError, match="Invalid"):
        ec.derive_private_key(order, ec.SECP256R1())


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_extreme_randomness_is_a_key(reader: P256, fill: int) -> None:
    def constant(size: int) -> bytes:
        return bytes((fill,)) * size

    message = encrypt.encrypt(b"k", [reader.public_key()], external_aad=b"", random=constant)
    assert encrypt.decrypt_untrusted(message, reader, external_aad=b"") == b"k"
