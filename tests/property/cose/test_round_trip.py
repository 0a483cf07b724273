"""What was sealed, signed or encoded comes back, and is deterministic CBOR."""

from __future__ import annotations

import random

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.cose import cbor, encrypt, encrypt0, keys, record, sign1
from gateway.lane import Lane

KEY = ec.derive_private_key(77, ec.SECP256R1())
ids = st.binary(min_size=16, max_size=16)
times = st.integers(0, record.MAX_RECEIVED_MS)
headers = st.builds(
    record.Header,
    id=ids,
    patient=ids,
    lane=st.sampled_from(Lane),
    received_ms=times,
    epoch=ids,
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=8,
)
assessments = st.none() | st.dictionaries(st.text(max_size=10), json_values, max_size=4)
contents = st.tuples(
    st.lists(st.dictionaries(st.integers(-6, 8), st.floats(allow_nan=False)), max_size=5).map(
        lambda pack: cbor2.dumps(pack, canonical=True)
    ),
    st.none(),
) | st.tuples(st.none(), st.tuples(st.sampled_from((16, 96)), st.binary(max_size=300)))


@given(
    plaintext=st.binary(max_size=600),
    aad=st.binary(max_size=600),
    key=st.binary(min_size=32, max_size=32),
)
def test_encrypt0(plaintext: bytes, aad: bytes, key: bytes) -> None:
    sealer = encrypt0.Sealer(bytes(16), key)
    messages = [sealer.seal(plaintext, aad) for _ in range(2)]
    assert messages[0] != messages[1]
    for message in messages:
        assert encrypt0.open_untrusted(message, key, aad) == plaintext
        assert cbor2.dumps(cbor2.loads(message), canonical=True) == message


@given(plaintext=st.binary(max_size=300), aad=st.binary(max_size=300), seed=st.integers())
def test_encrypt(plaintext: bytes, aad: bytes, seed: int) -> None:
    message = encrypt.encrypt(
        plaintext, [KEY.public_key()], external_aad=aad, random=random.Random(seed).randbytes
    )
    assert encrypt.decrypt_untrusted(message, KEY, external_aad=aad) == plaintext


@given(payload=st.binary(max_size=300), aad=st.binary(max_size=300))
def test_sign1(payload: bytes, aad: bytes) -> None:
    message = sign1.sign(KEY, payload, external_aad=aad)
    found = sign1.verify_untrusted(message, KEY.public_key(), external_aad=aad)
    assert found.payload == payload


@given(scalar=st.integers(1, 2**255))
def test_public_keys(scalar: int) -> None:
    key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    encoded = cbor.encode(keys.encode_public(key))
    assert keys.decode_public_untrusted(cbor.decode_untrusted(encoded)) == key


@given(header=headers, gateway=st.text(max_size=64))
def test_external_aad(header: record.Header, gateway: str) -> None:
    expected = [gateway, header.id, header.patient, str(header.lane), header.received_ms]
    assert record.external_aad(gateway, *header[:4]) == cbor2.dumps(expected, canonical=True)


@given(
    names=st.tuples(st.text(max_size=64), st.text(max_size=64), st.text(max_size=20)),
    received_ms=times,
    content=contents,
    assessment=assessments,
)
def test_plaintext(
    names: tuple[str, str, str],
    received_ms: int,
    content: tuple[bytes | None, tuple[int, bytes] | None],
    assessment: dict[str, object] | None,
) -> None:
    device, patient, clock = names
    plaintext = record.Plaintext(device, patient, received_ms, clock, *content, assessment)
    encoded = record.encode(plaintext)
    assert record.decode_untrusted(encoded) == plaintext
    assert cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded


@given(items=st.lists(st.tuples(headers, st.binary(max_size=300)), min_size=1, max_size=5))
def test_batch(items: list[tuple[record.Header, bytes]]) -> None:
    batch = record.encode_batch(KEY, "gateway-1", items)
    assert record.decode_batch_untrusted(batch, KEY.public_key(), gateway="gateway-1") == items
