"""The envelope of an epoch: its content key, for the people who may read, signed by the gateway.

The content key, as a COSE_Key, is the plaintext of a COSE_Encrypt, and that is the payload of a
COSE_Sign1 whose protected header says in the clear what the cloud store must know to serve it.
The same facts are the ``external_aad`` of the COSE_Encrypt: another gateway cannot put its own
signature and its own facts around a content key that it took from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.cose import cbor, encrypt, headers, sign1
from gateway.cose.encrypt0 import EPOCH_BYTES
from gateway.cose.keys import decode_symmetric_untrusted, encode_symmetric, thumbprint
from gateway.cose.record import ID_BYTES, MAX_NAME_BYTES, MAX_RECEIVED_MS, lane_untrusted
from gateway.errors import BadRequestError, IntegrityError, SealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from gateway.cose.keys import PrivateKey, PublicKey
    from gateway.lane import Lane

_TYPE: Final = "application/vnd.ward-gateway.envelope+cose"
_KID_BYTES: Final = 32


class Envelope(NamedTuple):
    """One epoch. ``message`` says the same, signed, and holds the wrapped content key."""

    epoch: bytes
    """16 bytes."""

    gateway: str
    patient: bytes
    """16 bytes: pseudonym."""

    lane: Lane
    created_ms: int
    readers: tuple[bytes, ...]
    """Thumbprints (``kid``) of the keys that open it."""

    message: bytes
    """COSE_Sign1 (ES256, x5chain) over the COSE_Encrypt."""


def seal_envelope(
    content_key: bytes,
    *,
    epoch: bytes,
    gateway: str,
    patient: bytes,
    lane: Lane,
    created_ms: int,
    recipients: Sequence[PublicKey],
    signing_key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    random: Callable[[int], bytes],
) -> Envelope:
    """Wrap ``content_key`` for ``recipients`` and sign. ``gateway`` is the certificate's CN.

    Raises SealError: no recipient, or wrong lengths.
    """
    if len(epoch) != EPOCH_BYTES or len(patient) != ID_BYTES:
        raise SealError("an epoch and a pseudonym must be 16 bytes")
    readers = tuple(thumbprint(recipient) for recipient in recipients)
    envelope = Envelope(epoch, gateway, patient, lane, created_ms, readers, b"")
    payload = encrypt.encrypt(
        encode_symmetric(content_key, kid=epoch),
        recipients,
        external_aad=_external_aad(envelope),
        random=random,
    )
    protected: dict[int | str, object] = {
        headers.TYP: _TYPE,
        headers.X5CHAIN: certificate.public_bytes(Encoding.DER),
        "epoch": epoch,
        "gateway": gateway,
        "patient": patient,
        "lane": str(lane),
        "created_ms": created_ms,
        "readers": list(readers),
    }
    return envelope._replace(message=sign1.sign(signing_key, payload, protected=protected))


def read_envelope_untrusted(
    message: bytes, *, trust: Callable[[x509.Certificate], None]
) -> Envelope:
    """The envelope, after ``trust`` has accepted its signer and the signature was verified.

    ``trust`` raises PeerError for a certificate that may not sign envelopes. The gateway named
    is the certificate's CN. Raises BadRequestError (shape), IntegrityError (signature, name), or
    what ``trust`` raises.
    """
    certificate = sign1.x5chain_untrusted(message)
    trust(certificate)
    envelope, _ = _verify_untrusted(message, certificate)
    return envelope


def open_envelope_untrusted(envelope: Envelope, private_key: PrivateKey) -> bytes:
    """The 32-byte content key, for an envelope from :func:`read_envelope_untrusted`.

    Raises BadRequestError (shape) or IntegrityError (not for this key, or does not open).
    """
    certificate = sign1.x5chain_untrusted(envelope.message)
    verified, payload = _verify_untrusted(envelope.message, certificate)
    if verified != envelope:
        raise IntegrityError("envelope: its message says something else")
    plaintext = encrypt.decrypt_untrusted(
        payload, private_key, external_aad=_external_aad(envelope)
    )
    kid, content_key = decode_symmetric_untrusted(plaintext)
    if kid != envelope.epoch:
        raise IntegrityError("envelope: holds the key of another epoch")
    return content_key


def _verify_untrusted(message: bytes, certificate: x509.Certificate) -> tuple[Envelope, bytes]:
    """The envelope and its COSE_Encrypt, signed by the bearer of ``certificate``."""
    try:
        public_key = certificate.public_key()
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception as exc:  # parts are parsed when they are asked for, each in its own way
        raise BadRequestError("envelope: the signer's certificate cannot be read") from exc
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise IntegrityError("envelope: the signer's key is not on P-256")
    payload, protected, _ = sign1.verify_untrusted(message, public_key)
    if protected.get(headers.TYP) != _TYPE:
        raise BadRequestError("envelope: the message is of another type")
    envelope = Envelope(
        epoch=_bytes(protected.get("epoch"), EPOCH_BYTES),
        gateway=_gateway(protected.get("gateway")),
        patient=_bytes(protected.get("patient"), ID_BYTES),
        lane=lane_untrusted(protected.get("lane")),
        created_ms=_milliseconds(protected.get("created_ms")),
        readers=_readers(protected.get("readers")),
        message=message,
    )
    if [name.value for name in names] != [envelope.gateway]:
        raise IntegrityError("envelope: signed by another than the gateway it names")
    return envelope, payload


def _external_aad(envelope: Envelope) -> bytes:
    epoch, gateway, patient, lane, created_ms, readers, _ = envelope
    return cbor.encode([gateway, epoch, patient, str(lane), created_ms, list(readers)])


def _bytes(value: object, size: int) -> bytes:
    if type(value) is not bytes or len(value) != size:
        raise BadRequestError(f"envelope: {size} bytes are missing")
    return value


def _gateway(value: object) -> str:
    if not isinstance(value, str) or len(value.encode()) > MAX_NAME_BYTES:
        raise BadRequestError("envelope: the gateway's name must be text")
    return value


def _milliseconds(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_RECEIVED_MS:
        raise BadRequestError("envelope: created_ms must be a time")
    return value


def _readers(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= encrypt.MAX_RECIPIENTS:
        raise BadRequestError(f"envelope: there must be 1 to {encrypt.MAX_RECIPIENTS} readers")
    return tuple(_bytes(each, _KID_BYTES) for each in value)
