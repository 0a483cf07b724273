from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.cose import record, sign1
from gateway.errors import BadRequestError, IntegrityError, SealError, TooLargeError
from gateway.lane import Lane

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    P256 = ec.EllipticCurvePrivateKey

HEADER = record.Header(
    id=bytes(range(16)),
    patient=bytes(range(16, 32)),
    lane=Lane.EMERGENCY,
    received_ms=1_790_000_000_123,
    epoch=bytes(range(32, 48)),
)
SENML = cbor2.dumps([{0: "bracelet-1/hr", 1: "1/min", 2: 71.5, 6: 1_790_000_000.5}], canonical=True)
ASSESSMENT = {
    "priority": "routine",
    "findings": [{"rule": "news2", "priority": "urgent", "detail": "score 5", "since": 1.5}],
    "news2": {"score": 5, "red": False, "missing": ["temp"]},
}
PLAINTEXT = record.Plaintext(
    device="bracelet-1",
    patient="Bed 4, Åsa",
    received_ms=1_790_000_000_123,
    clock="synchronised",
    senml=SENML,
    sealed=None,
    assessment=ASSESSMENT,
)


@pytest.mark.parametrize("received_ms", [0, 23, 24, 2**32 - 1, 2**32, HEADER.received_ms])
@pytest.mark.parametrize("gateway", ["", "gateway-1", "Å" * 200])
def test_external_aad_is_deterministic_cbor(received_ms: int, gateway: str) -> None:
    header = HEADER._replace(received_ms=received_ms)
    expected = [gateway, header.id, header.patient, "emergency", received_ms]
    assert record.external_aad(gateway, *header[:4]) == cbor2.dumps(expected, canonical=True)


@pytest.mark.parametrize("change", [{"id": bytes(15)}, {"patient": bytes(17)}, {"received_ms": -1}])
def test_external_aad_cannot_be_ambiguous(change: dict[str, Any]) -> None:
    with pytest.raises(SealError):
        record.external_aad("gateway-1", *HEADER._replace(**change)[:4])


@pytest.mark.parametrize(
    "plaintext",
    [
        PLAINTEXT,
        PLAINTEXT._replace(assessment=None),
        PLAINTEXT._replace(senml=None, sealed=(96, b"\xd8\x60\x84"), assessment=None),
        PLAINTEXT._replace(senml=None, sealed=(16, b"\xd0\x83")),
        PLAINTEXT._replace(received_ms=0, senml=b"\x80"),
    ],
)
def test_plaintext_round_trip(plaintext: record.Plaintext) -> None:
    encoded = record.encode(plaintext)
    assert record.decode_untrusted(encoded) == plaintext
    assert encoded == cbor2.dumps(cbor2.loads(encoded), canonical=True)


def test_the_pack_is_embedded_as_an_array() -> None:
    assert cbor2.loads(record.encode(PLAINTEXT))["senml"] == cbor2.loads(SENML)


@pytest.mark.parametrize("change", [{"senml": None}, {"sealed": (16, b"")}, {"received_ms": -1}])
def test_plaintext_that_cannot_be_is_not_encoded(change: dict[str, Any]) -> None:
    with pytest.raises(SealError):
        record.encode(PLAINTEXT._replace(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"device": None},
        {"device": 7},
        {"patient": b"bytes"},
        {"clock": None},
        {"received_ms": None},
        {"received_ms": -1},
        {"received_ms": 1.5},
        {"received_ms": True},
        {"received_ms": record.MAX_RECEIVED_MS + 1},
        {"senml": None},
        {"senml": {}},
        {"sealed": [16, b""]},
        {"sealed": 16, "senml": None},
        {"sealed": [16], "senml": None},
        {"sealed": ["16", b""], "senml": None},
        {"sealed": [-1, b""], "senml": None},
        {"assessment": []},
        {"assessment": {1: 2}},
        {"assessment": {"a": b"bytes"}},
        {"assessment": {"a": [float("nan")]}},
    ],
)
def test_plaintext_that_cannot_be_is_not_decoded(change: dict[str, Any]) -> None:
    values = cbor2.loads(record.encode(PLAINTEXT)) | change
    encoded = cbor2.dumps({key: value for key, value in values.items() if value is not None})
    with pytest.raises(BadRequestError):
        record.decode_untrusted(encoded)


def test_plaintext_is_decoded_strictly() -> None:
    encoded = record.encode(PLAINTEXT)
    twice = bytes((encoded[0] + 1,)) + encoded[1:] + b"\x65clock\x61x"
    for other in (encoded + b"\0", encoded[:-1], twice, b"", b"\x80"):
        with pytest.raises(BadRequestError):
            record.decode_untrusted(other)


def test_batch_round_trip(signer: P256) -> None:
    items = [(HEADER, b"sealed"), (HEADER._replace(lane=Lane.ROUTINE, received_ms=5), b"")]
    batch = record.encode_batch(signer, "gateway-1", items)
    found = record.decode_batch_untrusted(batch, signer.public_key(), gateway="gateway-1")
    assert found == items
    signed = sign1.verify_untrusted(batch, signer.public_key())
    expected = [
        [header.id, header.patient, str(header.lane), header.received_ms, header.epoch, sealed]
        for header, sealed in items
    ]
    assert signed.payload == cbor2.dumps(expected, canonical=True)


def test_a_batch_bears_its_gateway(signer: P256, reader: P256) -> None:
    """Neither another name nor another key passes."""
    batch = record.encode_batch(signer, "gateway-1", [(HEADER, b"")])
    with pytest.raises(IntegrityError, match="another gateway"):
        record.decode_batch_untrusted(batch, signer.public_key(), gateway="gateway-2")
    with pytest.raises(IntegrityError):
        record.decode_batch_untrusted(batch, reader.public_key(), gateway="gateway-1")


def test_another_signed_message_is_no_batch(signer: P256) -> None:
    payload = cbor2.dumps([[HEADER.id, HEADER.patient, "routine", 0, HEADER.epoch, b""]])
    message = sign1.sign(signer, payload, protected={"gateway": "gateway-1"})
    with pytest.raises(BadRequestError, match="another type"):
        record.decode_batch_untrusted(message, signer.public_key(), gateway="gateway-1")


def test_batches_are_limited(signer: P256) -> None:
    over = [
        [],
        [(HEADER, b"")] * (record.MAX_BATCH_RECORDS + 1),
        [(HEADER, bytes(record.MAX_RECORD_BYTES + 1))],
        [(HEADER._replace(epoch=b""), b"")],
    ]
    for items in over:
        with pytest.raises(SealError):
            record.encode_batch(signer, "gateway-1", items)
    full = [(HEADER, bytes(record.MAX_RECORD_BYTES)), *[(HEADER, b"")] * 999]
    batch = record.encode_batch(signer, "gateway-1", full)
    assert record.decode_batch_untrusted(batch, signer.public_key(), gateway="gateway-1") == full


GOOD = [HEADER.id, HEADER.patient, "routine", 0, HEADER.epoch, b""]


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ([], BadRequestError),
        ([[*GOOD, b""]], BadRequestError),
        ([[b"short", *GOOD[1:]]], BadRequestError),
        ([[*GOOD[:2], "urgent", *GOOD[3:]]], BadRequestError),
        ([[*GOOD[:3], record.MAX_RECEIVED_MS + 1, *GOOD[4:]]], BadRequestError),
        ([[*GOOD[:3], -1, *GOOD[4:]]], BadRequestError),
        ([[*GOOD[:4], b"", b""]], BadRequestError),
        ([[*GOOD[:5], bytes(record.MAX_RECORD_BYTES + 1)]], TooLargeError),
        ([GOOD] * (record.MAX_BATCH_RECORDS + 1), TooLargeError),
        ({}, BadRequestError),
    ],
)
def test_signed_rubbish_is_refused(
    signer: P256, items: object, error: type[BadRequestError] | type[TooLargeError]
) -> None:
    """A signature proves who sent it, not that it is in order."""
    protected: dict[int | str, object] = {16: "application/vnd.ward-gateway.batch+cose"}
    protected["gateway"] = "gateway-1"
    message = sign1.sign(signer, cbor2.dumps(items), protected=protected)
    with pytest.raises(error):
        record.decode_batch_untrusted(message, signer.public_key(), gateway="gateway-1")


def test_nothing_may_follow_a_batch(signer: P256) -> None:
    protected: dict[int | str, object] = {16: "application/vnd.ward-gateway.batch+cose"}
    protected["gateway"] = "gateway-1"
    message = sign1.sign(signer, cbor2.dumps([GOOD]) + b"\0", protected=protected)
    with pytest.raises(BadRequestError, match="trailing"):
        record.decode_batch_untrusted(message, signer.public_key(), gateway="gateway-1")


@pytest.mark.parametrize("value", ["", "Routine", None, 3, b"routine", [], {}])
def test_only_lanes_are_lanes(value: object) -> None:
    assert record.lane_untrusted("routine") is Lane.ROUTINE
    with pytest.raises(BadRequestError):
        record.lane_untrusted(value)
