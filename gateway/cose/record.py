"""A record: its clear header, what is sealed, and the signed batch that carries many.

A record is made on the way of every datagram, so the header's binding and the plaintext are laid
out by hand around values that are CBOR already. Keys of the plaintext are text, in the order of
deterministic CBOR (RFC 8949 section 4.2.1): shorter first, then alphabetical.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.cose import cbor, encrypt0, headers, sign1
from gateway.errors import BadRequestError, IntegrityError, SealError, TooLargeError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

ID_BYTES: Final = 16
"""Record ids, pseudonyms and epochs."""

MAX_BATCH_RECORDS: Final = 1000
MAX_RECORD_BYTES: Final = encrypt0.MAX_CIPHERTEXT_BYTES + 1024
"""A sealed record: its ciphertext and the COSE around it."""

_MAX_PARTS: Final = 8192
"""CBOR items of the pack in a plaintext: 256 records of nine labels are 4,900."""

MAX_NAME_BYTES: Final = 256
"""Names of gateways, devices and patients: 64 characters (RFC 5280 ub-common-name), in UTF-8."""

MAX_RECEIVED_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the last date that everybody can print."""

_BATCH_TYPE: Final = "application/vnd.ward-gateway.batch+cose"
_LANES: Final = {lane: cbor.text_string(lane) for lane in Lane}
_WIDE: Final = struct.Struct(">BQ")
"""An unsigned integer of 2^32 or more; milliseconds have been that since February 1970."""


class Header(NamedTuple):
    """What travels in the clear beside a sealed record."""

    id: bytes
    """16 bytes, time-ordered."""

    patient: bytes
    """16 bytes: pseudonym."""

    lane: Lane

    received_ms: int
    """UTC milliseconds since 1970."""

    epoch: bytes
    """16 bytes."""


class Plaintext(NamedTuple):
    """What is sealed. Exactly one of ``senml`` and ``sealed`` is present."""

    device: str
    patient: str
    """The patient's real id."""

    received_ms: int
    clock: str
    """Quality of the gateway's clock when the record was received."""

    senml: bytes | None
    """The resolved pack as CBOR (one array), embedded as it is."""

    sealed: tuple[int, bytes] | None
    """Content-Format and message of the node's own COSE, carried as it is."""

    assessment: Mapping[str, object] | None


class RecordIds:
    """Mints ids: UUID version 7 (RFC 9562 section 5.7), from milliseconds, a counter of 26 bits and
    6 bytes of this process.

    Later ones are larger also when the clock is set back: the milliseconds then stay where they
    were (section 6.2), and go on by one when the counter comes round.
    """

    def __init__(self, tail: bytes) -> None:
        self._tail = tail
        self._time_ms = 0
        self._count = 0

    def mint(self, received_ms: int) -> bytes:
        """The next one."""
        count = self._count = (self._count + 1) & 0x3FFFFFF
        time_ms = self._time_ms = max(received_ms, self._time_ms + (count == 0))
        high = 0x7000 | count >> 14
        low = 0x8000 | count & 0x3FFF
        return (time_ms << 32 | high << 16 | low).to_bytes(10, "big") + self._tail


@lru_cache(maxsize=16)
def _milliseconds(value: int) -> bytes:
    """Everything of one burst was received in the same millisecond."""
    if value >> 32 > 0:
        return _WIDE.pack(0x1B, value)
    if value < 0:
        raise SealError("a time must not be negative")
    return cbor.head(cbor.UINT, value)


def external_aad(gateway: str, name: bytes, patient: bytes, lane: Lane, received_ms: int) -> bytes:
    """Deterministic CBOR ``[gateway, id, patient, lane, received ms]``, bound to the sealed record.

    name: the record's id. Raises SealError: an id or pseudonym that is not 16 bytes, a negative
    time.
    """
    if len(name) != ID_BYTES or len(patient) != ID_BYTES:
        raise SealError("a record's id and its pseudonym must be 16 bytes")
    before, after = _around_id(gateway, patient, lane)
    return before + name + after + _milliseconds(received_ms)


@lru_cache(maxsize=4096)
def _around_id(gateway: str, patient: bytes, lane: Lane) -> tuple[bytes, bytes]:
    """What stands before and behind the id, the same for every record of a patient and lane."""
    return b"\x85" + cbor.text_string(gateway) + b"\x50", b"\x50" + patient + _LANES[lane]


def encode(plaintext: Plaintext, *, assessment: bytes | None = None) -> bytes:
    """A deterministic CBOR map under text keys; absent values are left out.

    ``assessment``: the map already encoded, embedded as it is; the plaintext has none then.

    Raises SealError: both or neither of ``senml`` and ``sealed``, a negative time.
    """
    device, patient, received_ms, clock, senml, sealed, judged = plaintext
    if judged is not None:
        assessment = cbor.encode(judged)
    if (senml is None) == (sealed is None):
        raise SealError("a record holds either a SenML pack or a node's own COSE message")
    before, between, behind = _names(clock, device, patient, assessment is not None)
    return b"".join(
        (
            before,
            b"" if senml is None else b"\x65senml" + senml,
            between,
            b"" if sealed is None else b"\x66sealed" + cbor.encode(sealed),
            behind,
            b"" if assessment is None else b"\x6aassessment" + assessment,
            b"\x6breceived_ms",
            _milliseconds(received_ms),
        )
    )


@lru_cache(maxsize=4096)
def _names(clock: str, device: str, patient: str, judged: bool) -> tuple[bytes, bytes, bytes]:
    """The parts that are the same for every record of a device (0.7 us a record)."""
    return (
        (b"\xa6" if judged else b"\xa5") + b"\x65clock" + cbor.text_string(clock),
        b"\x66device" + cbor.text_string(device),
        b"\x67patient" + cbor.text_string(patient),
    )


def decode_untrusted(data: bytes) -> Plaintext:
    """Raises BadRequestError."""
    reader = cbor.Reader(data)
    senml: bytes | None = None
    values: dict[str, object] = {}
    for _ in range(reader.head(cbor.MAP)):
        key = reader.text(32)
        if key in values:
            raise BadRequestError(f"record: {key} twice")
        parts = _MAX_PARTS if key == "senml" else cbor.MAX_PARTS
        encoded, values[key] = reader.encoded_item(MAX_RECORD_BYTES, parts)
        if key == "senml":
            senml = encoded
    reader.end()
    device, patient, clock = (_name(values, key) for key in ("device", "patient", "clock"))
    received_ms = values.get("received_ms")
    if type(received_ms) is not int or not 0 <= received_ms <= MAX_RECEIVED_MS:
        raise BadRequestError("record: received_ms must be a time")
    if senml is not None and not isinstance(values["senml"], list):
        raise BadRequestError("record: senml must be an array")
    sealed = _sealed(values["sealed"]) if "sealed" in values else None
    if (senml is None) == (sealed is None):
        raise BadRequestError("record: there must be either senml or sealed")
    assessment = values.get("assessment")
    if assessment is None:
        return Plaintext(device, patient, received_ms, clock, senml, sealed, None)
    if not _is_plain(assessment) or not isinstance(assessment, dict):
        raise BadRequestError("record: assessment must be a map of what JSON can say")
    return Plaintext(device, patient, received_ms, clock, senml, sealed, assessment)


def _name(values: Mapping[str, object], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise BadRequestError(f"record: {key} must be text")
    return value


def _sealed(value: object) -> tuple[int, bytes]:
    if isinstance(value, list) and len(value) == 2:
        content_format, message = value
        if type(content_format) is int and type(message) is bytes and content_format >= 0:
            return content_format, message
    raise BadRequestError("record: sealed must be a Content-Format and a message")


def _is_plain(value: object) -> bool:
    """Whether a reader can print it as JSON. The decoder has limited the depth."""
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in {str, int, bool}


_Item = tuple[tuple[bytes, bytes, Lane, int, bytes], bytes]
"""(header, record); a header is made into a tuple of its own only where it is read."""


def encode_batch(
    private_key: ec.EllipticCurvePrivateKey, gateway: str, items: Sequence[_Item]
) -> bytes:
    """COSE_Sign1 over ``[[id, patient, lane, received ms, epoch, record], ...]``.

    ``items``: (header, record); a bare tuple does for a header. The gateway's name is in the
    protected header. Raises SealError: empty, or over a limit.
    """
    if not 1 <= len(items) <= MAX_BATCH_RECORDS:
        raise SealError(f"{len(items)} records: a batch has 1 to {MAX_BATCH_RECORDS}")
    payload = cbor.head(cbor.ARRAY, len(items)) + b"".join([_item(item) for item in items])
    protected: dict[int | str, object] = {headers.TYP: _BATCH_TYPE, "gateway": gateway}
    return sign1.sign(private_key, payload, protected=protected)


def _item(item: _Item) -> bytes:
    (name, patient, lane, received_ms, epoch), record = item
    if not len(name) == len(patient) == len(epoch) == ID_BYTES:
        raise SealError("a record's id, pseudonym and epoch must be 16 bytes")
    if len(record) > MAX_RECORD_BYTES:
        raise SealError(f"a record of {len(record)} bytes: at most {MAX_RECORD_BYTES}")
    return b"\x86\x50%b\x50%b%b%b\x50%b%b%b" % (
        name,
        patient,
        _LANES[lane],
        _milliseconds(received_ms),
        epoch,
        cbor.head(cbor.BYTES, len(record)),
        record,
    )


def decode_batch_untrusted(
    message: bytes, public_key: ec.EllipticCurvePublicKey, *, gateway: str
) -> list[tuple[Header, bytes]]:
    """The verified records, each with its header, in the sender's order.

    ``gateway``: the name in the certificate of ``public_key``; the batch must bear the same.
    Raises BadRequestError (shape), TooLargeError (limits) or IntegrityError (signature, name).
    """
    signed = sign1.verify_untrusted(message, public_key)
    if signed.protected.get(headers.TYP) != _BATCH_TYPE:
        raise BadRequestError("batch: the message is of another type")
    if signed.protected.get("gateway") != gateway:
        raise IntegrityError("batch: signed in the name of another gateway")
    reader = cbor.Reader(signed.payload)
    count = reader.head(cbor.ARRAY)
    if count == 0:
        raise BadRequestError("batch: no records")
    if count > MAX_BATCH_RECORDS:
        raise TooLargeError("batch: too many records", MAX_BATCH_RECORDS)
    items = [_item_untrusted(reader) for _ in range(count)]
    reader.end()
    return items


def _item_untrusted(reader: cbor.Reader) -> tuple[Header, bytes]:
    reader.expect(cbor.ARRAY, 6)
    name, patient = reader.exactly(ID_BYTES), reader.exactly(ID_BYTES)
    lane = lane_untrusted(reader.text(32))
    received_ms = reader.head(cbor.UINT)
    if received_ms > MAX_RECEIVED_MS:
        raise BadRequestError("batch: received_ms must be a time")
    epoch = reader.exactly(ID_BYTES)
    return Header(name, patient, lane, received_ms, epoch), reader.byte_string(MAX_RECORD_BYTES)


def lane_untrusted(value: object) -> Lane:
    """The lane of this name. Raises BadRequestError."""
    try:
        return Lane(value)  # type: ignore[arg-type]  # what is not a lane's name is refused here
    except ValueError as exc:
        raise BadRequestError("no such lane") from exc
