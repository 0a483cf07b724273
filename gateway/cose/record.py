"""A record: its clear header, what is sealed, and the signed batch that carries many."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

MAX_BATCH_RECORDS = 1000
MAX_RECORD_BYTES = 1 << 20


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


def external_aad(gateway: str, header: Header) -> bytes:
    """Deterministic CBOR ``[gateway, id, patient, lane, received ms]``, bound to the sealed record.

    Raises SealError: an id or pseudonym that is not 16 bytes, a negative time.
    """
    raise NotImplementedError


def encode(plaintext: Plaintext) -> bytes:
    """A deterministic CBOR map under text keys; absent values are left out."""
    raise NotImplementedError


def decode_untrusted(data: bytes) -> Plaintext:
    """Raises BadRequestError."""
    raise NotImplementedError


def encode_batch(
    private_key: ec.EllipticCurvePrivateKey, gateway: str, items: Sequence[tuple[Header, bytes]]
) -> bytes:
    """COSE_Sign1 over ``[[id, patient, lane, received ms, epoch, record], ...]``.

    The gateway's name is in the protected header. Raises SealError: empty, or over a limit.
    """
    raise NotImplementedError


def decode_batch_untrusted(
    message: bytes, public_key: ec.EllipticCurvePublicKey, *, gateway: str
) -> list[tuple[Header, bytes]]:
    """The verified records, each with its header, in the sender's order.

    ``gateway``: the name in the certificate of ``public_key``; the batch must bear the same.
    Raises BadRequestError (shape), TooLargeError (limits) or IntegrityError (signature, name).
    """
    raise NotImplementedError
