"""From a sealed record to what the ward said, or the reason why not.

Nothing that the cloud store says is believed. A record is shown only if all of this holds:

1. the envelope of its epoch is signed by a certificate that the ward's authority issued to a
   gateway, valid on the day when the envelope was made;
2. that gateway, the patient's pseudonym and the lane in the signed envelope are those that the
   record travels under;
3. the envelope opens with the recipient's key;
4. the record opens under the envelope's content key, bound to gateway, id, pseudonym, lane and
   time (external_aad);
5. what is inside is well formed and says the same time.

What the reader cannot know: whether the store keeps records back.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from certs.profiles import GATEWAY
from certs.verify import issued_by, role_of
from gateway.cose.encrypt0 import open_untrusted
from gateway.cose.envelope import open_envelope_untrusted, read_envelope_untrusted
from gateway.cose.keys import thumbprint
from gateway.cose.record import decode_untrusted, external_aad
from gateway.errors import ForbiddenError, PeerError, SealError
from gateway.senml.pack import decode_resolved_untrusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from gateway.cose.envelope import Envelope
    from gateway.cose.keys import PrivateKey
    from gateway.lane import Lane
    from gateway.reader.pages import Item
    from gateway.senml.record import Record

EPOCHS = 4096
"""Content keys kept: two lanes of 80 patients for a day of hourly epochs. The oldest goes; it is
fetched again if it is needed."""


class NotEntitledError(SealError):
    """The record is for others: no fault of anybody."""

    kind = "not_entitled"


class TamperedError(SealError):
    """The record or its envelope is not what a gateway of this ward made."""

    kind = "tampered"


class Opened(NamedTuple):
    """One verified record. Either ``records`` or ``sealed`` is there."""

    id: bytes
    gateway: str
    device: str
    patient: str
    lane: Lane
    received_ms: int
    clock: str
    records: tuple[Record, ...] | None
    sealed: tuple[int, bytes] | None
    """Content-Format and COSE message of a node that seals by itself."""
    assessment: Mapping[str, object] | None


class _Epoch(NamedTuple):
    envelope: Envelope
    content_key: bytes


class Opening:
    """Opens records for one recipient. The caller fetches the envelopes that it asks for."""

    def __init__(self, authority: x509.Certificate, private_key: PrivateKey) -> None:
        self._authority = authority
        self._private_key = private_key
        self._kid = thumbprint(private_key.public_key())
        self._epochs: OrderedDict[bytes, _Epoch | SealError] = OrderedDict()

    def needs(self, epoch: bytes) -> bool:
        """Whether :meth:`learn` has to be called before a record of this epoch is opened."""
        return epoch not in self._epochs

    def learn(self, epoch: bytes, message: bytes | None) -> None:
        """Take an envelope as the cloud store gave it; None if it gave none.

        Never raises: what is wrong with it is said by :meth:`open`, for each of its records.
        """
        learnt: _Epoch | SealError
        try:
            learnt = self._verify(epoch, message)
        except SealError as error:
            learnt = error
        self._epochs[epoch] = learnt
        if len(self._epochs) > EPOCHS:
            self._epochs.popitem(last=False)

    def open(self, item: Item) -> Opened:
        """The verified record; its epoch was learnt. Raises NotEntitledError or TamperedError."""
        header = item.header
        epoch = self._epochs[header.epoch]
        if isinstance(epoch, SealError):
            raise epoch
        envelope = epoch.envelope
        claimed = (item.gateway, header.patient, header.lane)
        if claimed != (envelope.gateway, envelope.patient, envelope.lane):
            raise TamperedError("its envelope is of another gateway, patient or lane")
        try:
            aad = external_aad(envelope.gateway, *header[:4])
            plaintext = decode_untrusted(open_untrusted(item.record, epoch.content_key, aad))
            records = (
                None if plaintext.senml is None else decode_resolved_untrusted(plaintext.senml)
            )
        except PeerError as error:
            raise TamperedError(f"it does not open: {error}") from error
        if plaintext.received_ms != header.received_ms:
            raise TamperedError("it says another time inside")
        return Opened(
            id=header.id,
            gateway=envelope.gateway,
            device=plaintext.device,
            patient=plaintext.patient,
            lane=header.lane,
            received_ms=header.received_ms,
            clock=plaintext.clock,
            records=records,
            sealed=plaintext.sealed,
            assessment=plaintext.assessment,
        )

    def _verify(self, epoch: bytes, message: bytes | None) -> _Epoch:
        if message is None:
            raise NotEntitledError("the cloud store gives no envelope for it")
        signers: list[x509.Certificate] = []
        try:
            envelope = read_envelope_untrusted(message, trust=signers.append)
            # The date is only known after reading. A certificate that has run out since then
            # does not make what it signed in time unreadable.
            issued_by(signers[0], self._authority, wall=envelope.created_ms / 1000)
            if role_of(signers[0]) != GATEWAY.role:
                raise ForbiddenError("not signed by a gateway")
            if envelope.epoch != epoch:
                raise ForbiddenError("of another epoch")
            if self._kid not in envelope.readers:
                raise NotEntitledError("its envelope is not for this recipient")
            return _Epoch(envelope, open_envelope_untrusted(envelope, self._private_key))
        except PeerError as error:
            raise TamperedError(f"its envelope cannot be believed: {error}") from error
