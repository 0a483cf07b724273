from __future__ import annotations

import copy
import pickle

import cbor2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.cose import encrypt0
from gateway.errors import BadRequestError, IntegrityError, PeerError, SealError

KEY = bytes(range(32))
EPOCH = b"epoch-0123456789"


def sealed(plaintext: bytes = b"vitals", aad: bytes = b"bound") -> bytes:
    return encrypt0.Sealer(EPOCH, KEY).seal(plaintext, aad)


def message(protected: object, unprotected: object, plaintext: bytes = b"vitals") -> bytes:
    """COSE_Encrypt0 with whatever headers, its content in order."""
    encoded = cbor2.dumps(protected)
    aad = cbor2.dumps(["Encrypt0", encoded, b"bound"])
    ciphertext = AESGCM(KEY).encrypt(bytes(12), plaintext, aad)
    return cbor2.dumps(cbor2.CBORTag(16, [encoded, unprotected, ciphertext]))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 239, 240, 65_519, 65_520])
@pytest.mark.parametrize("bound", [0, 23, 24, 255, 256, 70_000])
def test_sealed_bytes_are_those_of_the_rfc(size: int, bound: int) -> None:
    """The hand-made layout equals what a generic encoder makes (RFC 9052 section 5.3)."""
    plaintext, aad = bytes(size), bytes(bound)
    found = sealed(plaintext, aad)
    protected = cbor2.dumps({1: 3, 4: EPOCH}, canonical=True)
    iv = (1).to_bytes(12, "big")
    structure = cbor2.dumps(["Encrypt0", protected, aad])
    ciphertext = AESGCM(KEY).encrypt(iv, plaintext, structure)
    assert found == cbor2.dumps(cbor2.CBORTag(16, [protected, {5: iv}, ciphertext]))
    assert encrypt0.open_untrusted(found, KEY, aad) == plaintext
    assert encrypt0.epoch_of_untrusted(found) == EPOCH


def test_an_iv_never_comes_twice() -> None:
    sealer = encrypt0.Sealer(EPOCH, KEY)
    ivs = {cbor2.loads(sealer.seal(b"", b"")).value[1][5] for _ in range(1000)}
    assert len(ivs) == sealer.sealed_count == 1000


@pytest.mark.interpreted("compiled, a wrong type is refused before anything is done")
def test_a_failed_seal_spends_its_iv() -> None:
    sealer = encrypt0.Sealer(EPOCH, KEY)
    with pytest.raises(TypeError):
        sealer.seal("text", b"")  # type: ignore[arg-type]
    assert sealer.sealed_count == 1


def test_what_is_sealed_can_be_opened() -> None:
    """The limits of both sides are the same."""
    largest = bytes(encrypt0.MAX_CIPHERTEXT_BYTES - 16)
    assert encrypt0.open_untrusted(sealed(largest), KEY, b"bound") == largest
    with pytest.raises(SealError):
        sealed(largest + b"\0")


def test_a_key_is_worn_out_after_2_to_the_32() -> None:
    sealer = encrypt0.Sealer(EPOCH, KEY)
    sealer.sealed_count = 2**32 - 1
    sealer.seal(b"last", b"")
    with pytest.raises(SealError):
        sealer.seal(b"one more", b"")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_sealer_cannot_be_duplicated(duplicate: object) -> None:
    """Two counters for one key would repeat IVs."""
    with pytest.raises(TypeError):
        duplicate(encrypt0.Sealer(EPOCH, KEY))  # type: ignore[operator]


@pytest.mark.parametrize(("epoch", "key"), [(EPOCH[1:], KEY), (EPOCH, KEY[1:]), (b"", b"")])
def test_lengths_are_checked(epoch: bytes, key: bytes) -> None:
    with pytest.raises(SealError):
        encrypt0.Sealer(epoch, key)


@pytest.mark.parametrize("aad", [b"", b"bounD", b"bound\0"])
def test_other_circumstances_do_not_open(aad: bytes) -> None:
    with pytest.raises(IntegrityError):
        encrypt0.open_untrusted(sealed(), KEY, aad)


@pytest.mark.parametrize("key", [bytes(32), KEY[:16], b""])
def test_another_key_does_not_open(key: bytes) -> None:
    with pytest.raises(IntegrityError):
        encrypt0.open_untrusted(sealed(), key, b"bound")


def test_a_flipped_bit_anywhere_does_not_open() -> None:
    """The kid and the IV included: every byte of a record is authenticated or checked."""
    original = sealed()
    for position in range(len(original) * 8):
        flipped = bytearray(original)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(PeerError):
            encrypt0.open_untrusted(bytes(flipped), KEY, b"bound")


def test_a_message_of_another_sender_opens() -> None:
    """The kid may be unprotected, or missing."""
    assert encrypt0.open_untrusted(message({1: 3}, {5: bytes(12)}), KEY, b"bound") == b"vitals"
    assert encrypt0.epoch_of_untrusted(message({1: 3}, {4: b"k", 5: bytes(12)})) == b"k"


@pytest.mark.parametrize(
    ("protected", "unprotected"),
    [
        ({1: 1}, {5: bytes(12)}),  # A128GCM
        ({1: 24}, {5: bytes(12)}),  # ChaCha20/Poly1305
        ({}, {1: 3, 5: bytes(12)}),  # the algorithm where it can be exchanged
        ({1: 3}, {5: bytes(13)}),
        ({1: 3}, {6: bytes(12)}),  # a partial IV
        ({1: 3}, {}),
        ({1: 3, 2: [1]}, {5: bytes(12)}),
        ({1: 3, 5: bytes(12)}, {5: bytes(12)}),
    ],
)
def test_other_headers_are_refused(protected: object, unprotected: object) -> None:
    with pytest.raises(BadRequestError):
        encrypt0.open_untrusted(message(protected, unprotected), KEY, b"bound")


def test_other_shapes_are_refused() -> None:
    good = message({1: 3}, {5: bytes(12)})
    items = cbor2.loads(good).value
    others = [
        good + b"\0",
        good[:-1],
        cbor2.dumps(items),  # no tag
        cbor2.dumps(cbor2.CBORTag(96, items)),
        cbor2.dumps(cbor2.CBORTag(16, [*items, []])),
        cbor2.dumps(cbor2.CBORTag(16, [items[0], items[1], None])),  # detached content
        b"\xd0" + good,
    ]
    for other in others:
        with pytest.raises(BadRequestError):
            encrypt0.open_untrusted(other, KEY, b"bound")
