"""Which content key seals now: one epoch for each (patient, lane)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.cose.encrypt0 import Sealer
    from gateway.cose.envelope import Envelope
    from gateway.cose.keys import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How long one content key lives."""

    minutes: float = 60.0
    """An epoch this old is not used any more."""

    records: int = 100_000
    """Nor one that has sealed this many records."""


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
        raise NotImplementedError

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
        :meth:`forget`. Raises SealError: nobody may read.
        """
        raise NotImplementedError

    def forget(self, patient: bytes, lane: Lane) -> None:
        """Drop the open epoch: its envelope could not be stored, so nothing may be sealed in it."""
        raise NotImplementedError
