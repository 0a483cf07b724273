"""Whatever the bytes, functions that read a peer's raise PeerError and nothing else."""

from __future__ import annotations

import datetime
import random
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.cose import cbor, encrypt, encrypt0, envelope, headers, keys, record, sign1
from gateway.errors import PeerError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = ec.derive_private_key(77, ec.SECP256R1())
OTHER = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))
CONTENT_KEY = bytes(32)
HEADER = record.Header(bytes(16), bytes(16), Lane.ROUTINE, 1_790_000_000_000, bytes(16))
RANDOM = random.Random(1).randbytes


def certificate() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway-1")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=365))
        .sign(KEY, hashes.SHA256(), ecdsa_deterministic=True)
    )


SEALED = encrypt0.Sealer(bytes(16), CONTENT_KEY).seal(b"vitals", b"")
ENCRYPTED = encrypt.encrypt(
    b"key", [KEY.public_key(), OTHER.public_key()], external_aad=b"", random=RANDOM
)
BATCH = record.encode_batch(KEY, "gateway-1", [(HEADER, SEALED)] * 2)
PLAINTEXT = record.encode(
    record.Plaintext(
        "bracelet-1", "p", 1, "ok", cbor2.dumps([{0: "hr"}]), None, {"findings": [1.5]}
    )
)
ENVELOPE = envelope.seal_envelope(
    CONTENT_KEY,
    epoch=bytes(16),
    gateway="gateway-1",
    patient=bytes(16),
    lane=Lane.ROUTINE,
    created_ms=1,
    recipients=[KEY.public_key(), OTHER.public_key()],
    signing_key=KEY,
    certificate=certificate(),
    random=RANDOM,
)
COSE_KEY = cbor.encode(keys.encode_public(KEY.public_key()))


def read_batch(data: bytes) -> object:
    return record.decode_batch_untrusted(data, KEY.public_key(), gateway="gateway-1")


def read_signed_batch(data: bytes) -> object:
    """As if the gateway itself had signed these bytes."""
    protected: dict[int | str, object] = {16: "application/vnd.ward-gateway.batch+cose"}
    return read_batch(sign1.sign(KEY, data, protected={**protected, "gateway": "gateway-1"}))


def read_envelope(data: bytes) -> object:
    found = envelope.read_envelope_untrusted(data, trust=lambda _: None)
    return envelope.open_envelope_untrusted(found, OTHER)


def open_signed_envelope(data: bytes) -> object:
    """As if the gateway itself had signed this COSE_Encrypt."""
    protected = sign1.verify_untrusted(ENVELOPE.message, KEY.public_key()).protected
    message = sign1.sign(KEY, data, protected=protected)
    return envelope.open_envelope_untrusted(ENVELOPE._replace(message=message), KEY)


READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "cbor": (cbor.decode_untrusted, PLAINTEXT),
    "headers": (lambda data: headers.read_untrusted(cbor.Reader(data)), SEALED[2:]),
    "public key": (
        lambda data: keys.decode_public_untrusted(cbor.decode_untrusted(data)),
        COSE_KEY,
    ),
    "symmetric key": (
        keys.decode_symmetric_untrusted,
        keys.encode_symmetric(CONTENT_KEY, kid=b"kid"),
    ),
    "encrypt0": (lambda data: encrypt0.open_untrusted(data, CONTENT_KEY, b""), SEALED),
    "epoch": (encrypt0.epoch_of_untrusted, SEALED),
    "encrypt": (
        lambda data: encrypt.decrypt_untrusted(data, KEY, external_aad=b""),
        ENCRYPTED,
    ),
    "encrypt x25519": (
        lambda data: encrypt.decrypt_untrusted(data, OTHER, external_aad=b""),
        ENCRYPTED,
    ),
    "sign1": (lambda data: sign1.verify_untrusted(data, KEY.public_key()), BATCH),
    "x5chain": (sign1.x5chain_untrusted, ENVELOPE.message),
    "plaintext": (record.decode_untrusted, PLAINTEXT),
    "batch": (read_batch, BATCH),
    "signed batch": (
        read_signed_batch,
        sign1.verify_untrusted(BATCH, KEY.public_key()).payload,
    ),
    "envelope": (read_envelope, ENVELOPE.message),
    "signed envelope": (
        open_signed_envelope,
        sign1.verify_untrusted(ENVELOPE.message, KEY.public_key()).payload,
    ),
}

cbor_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=10),
    lambda children: (
        st.lists(children, max_size=6)
        | st.dictionaries(st.integers(-5, 40) | st.text(max_size=8), children, max_size=6)
    ),
    max_leaves=12,
)


@st.composite
def changed(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` with a few bytes replaced, left out or put in, or cut off."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        count = draw(st.integers(0, 3))
        data[at : at + count] = draw(st.binary(max_size=3))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def answers(read: Callable[[bytes], object], data: bytes) -> None:
    try:
        read(data)
    except PeerError:
        return


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_only_peer_errors(name: str, data: Any) -> None:
    """Random bytes, CBOR that is something else, and messages that were damaged."""
    read, original = READERS[name]
    read(original)
    rubbish = (
        st.binary(max_size=200)
        | cbor_values.map(cbor2.dumps)
        | cbor_values.map(lambda value: original[:2] + cbor2.dumps(value))
        | changed(original)
    )
    answers(read, data.draw(rubbish))


@given(
    protected=cbor_values,
    unprotected=cbor_values,
    rest=st.lists(cbor_values, max_size=3),
    tag=st.sampled_from((16, 18, 96)),
)
def test_messages_of_any_items(
    protected: object, unprotected: object, rest: list[object], tag: int
) -> None:
    """The outline of COSE around anything."""
    data = cbor2.dumps(cbor2.CBORTag(tag, [cbor2.dumps(protected), unprotected, *rest]))
    for read, _ in READERS.values():
        answers(read, data)


@given(value=cbor_values)
def test_public_keys_of_any_value(value: object) -> None:
    answers(lambda _: keys.decode_public_untrusted(value), b"")
    answers(lambda _: record.lane_untrusted(value), b"")


@pytest.mark.parametrize("name", ["encrypt0", "sign1", "batch", "envelope"])
@given(data=st.data())
def test_nothing_that_was_changed_opens(name: str, data: Any) -> None:
    """What is authenticated as a whole is refused after any change."""
    read, original = READERS[name]
    damaged = data.draw(changed(original).filter(lambda found: found != original))
    with pytest.raises(PeerError):
        read(damaged)
