"""Which content key seals now: one epoch for each (patient, lane).

Content keys exist in this table and nowhere else. A restart forgets them and opens new epochs, so
no counter has to be written down and no IV can come twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.cose.encrypt0 import EPOCH_BYTES, Sealer
from gateway.cose.envelope import Envelope, seal_envelope
from gateway.cose.keys import CONTENT_KEY_BYTES, PublicKey, thumbprint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.lane import Lane

MAX_OPEN: Final = 4096
"""Two lanes of 2,048 patients, far more than one gateway has associations. Beyond that the epoch
that has rested longest is closed: its patient's next record opens another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How long one content key lives."""

    minutes: float = 60.0
    """An epoch this old is not used any more."""

    records: int = 100_000
    """Nor one that has sealed this many records."""


class _Open(NamedTuple):
    sealer: Sealer
    readers: tuple[PublicKey, ...]
    expires: float


class Epochs:
    """The open epochs, at most one for each (patient, lane). Content keys live here only."""

    def __init__(
        self,
        config: Config,
        gateway: str,
        signing_key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        random: Callable[[int], bytes],
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._signing_key = signing_key
        self._certificate = certificate
        self._random = random
        # A Raspberry Pi starts in the past. Who verifies an envelope asks whether the certificate
        # was valid when it was made; what was sealed before the clock was set must not be lost.
        self._earliest_ms = int(certificate.not_valid_before_utc.timestamp() * 1000)
        self._open: dict[tuple[bytes, Lane], _Open] = {}

    def current(
        self,
        patient: bytes,
        lane: Lane,
        readers: Sequence[PublicKey],
        *,
        now: float,
        wall: float,
    ) -> tuple[Sealer, Envelope | None]:
        """The sealer for the next record, and the envelope if an epoch was opened for it.

        Store the envelope before, or together with, the first record; if that fails, call
        :meth:`forget`. Pass the same tuple of readers while they are the same people: it is
        compared for every record. Raises SealError: nobody may read.
        """
        key = (patient, lane)
        # Taken out and put back: a dict keeps the order of use, the longest unused first.
        epoch = self._open.pop(key, None)
        if (
            epoch is not None
            and now < epoch.expires
            and epoch.sealer.sealed_count < self._config.records
            and (readers is epoch.readers or tuple(readers) == epoch.readers)
        ):
            self._open[key] = epoch
            return epoch.sealer, None
        sealer, envelope = self._begin(patient, lane, readers, wall)
        self._make_room(now)
        self._open[key] = _Open(sealer, tuple(readers), now + self._config.minutes * 60)
        return sealer, envelope

    def renew(
        self,
        config: Config,
        signing_key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
    ) -> None:
        """Sign with this from the next epoch on, and open it by these rules. Open epochs go on to
        their end, or to an earlier one that the rules set in records."""
        self._config = config
        self._signing_key, self._certificate = signing_key, certificate
        self._earliest_ms = int(certificate.not_valid_before_utc.timestamp() * 1000)

    def forget(self, patient: bytes, lane: Lane) -> None:
        """Drop the open epoch: its envelope could not be stored, so nothing may be sealed in it."""
        self._open.pop((patient, lane), None)

    def _make_room(self, now: float) -> None:
        """Forget keys that will not be used again, from the longest unused on."""
        while self._open:
            key, epoch = next(iter(self._open.items()))
            if now < epoch.expires and len(self._open) < MAX_OPEN:
                return
            del self._open[key]

    def _begin(
        self, patient: bytes, lane: Lane, readers: Sequence[PublicKey], wall: float
    ) -> tuple[Sealer, Envelope]:
        epoch = self._random(EPOCH_BYTES)
        content_key = self._random(CONTENT_KEY_BYTES)
        people = {thumbprint(reader): reader for reader in readers}
        envelope = seal_envelope(
            content_key,
            epoch=epoch,
            gateway=self._gateway,
            patient=patient,
            lane=lane,
            created_ms=max(int(wall * 1000), self._earliest_ms),
            recipients=tuple(people.values()),
            signing_key=self._signing_key,
            certificate=self._certificate,
            random=self._random,
        )
        return Sealer(epoch, content_key), envelope
