"""A ward's rosters and an intake behind them, and the readers' way to what it seals."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs import files
from certs.authority import Authority
from certs.profiles import GATEWAY
from gateway.alarm_book import AlarmBook
from gateway.cose import encrypt0, record
from gateway.cose.envelope import open_envelope_untrusted
from gateway.cose.epochs import Config as EpochsConfig
from gateway.cose.epochs import Epochs
from gateway.intake import Intake
from gateway.recent_keys import RecentKeys
from gateway.roster.devices import Devices, new_device
from gateway.roster.files import change
from gateway.roster.recipients import Recipients
from gateway.roster.ward import Ward
from gateway.vitals.triage import Config as TriageConfig
from gateway.vitals.triage import Triage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.cose.envelope import Envelope
    from gateway.lane import Lane
    from gateway.outbox.entry import Entry

KEY = b"sixteen bytes ok"
TODAY = "2026-11-21T05:00:00Z"


class Opened(NamedTuple):
    """What a reader finds in a record."""

    plaintext: record.Plaintext
    header: record.Header


class Desk:
    """bracelet-1 and bracelet-2, on patients P1 and P2; a doctor and an alarm centre."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.wall = float(int(time.time()))
        authority = Authority.create(folder, "Ward 7", wall=self.wall)
        self.key = files.generate()
        self.certificate = authority.issue(
            GATEWAY, "gateway", self.key.public_key(), wall=self.wall, hosts=("localhost",)
        )
        self.devices = Devices(folder / "devices.json")
        self.recipients = Recipients(folder / "recipients.json")
        # Rosters of its own, as the running gateway has beside the command line's.
        self.ward = Ward(
            Devices(folder / "devices.json"), Recipients(folder / "recipients.json"), b"s" * 32
        )
        self.readers: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.envelopes: dict[bytes, Envelope] = {}
        for number in (1, 2):
            self.device(f"bracelet-{number}", f"P{number}")
        self.recipient("doctor", "doctor")
        self.recipient("alarm-centre", "alarm-centre")

    def device(self, name: str, patient: str, *, lenient: bool = False) -> None:
        self.devices.add(
            new_device(name, patient=patient, key=KEY, lenient_units=lenient, today=TODAY)
        )
        self.ward.refresh()

    def recipient(self, name: str, role: str, *patients: str) -> None:
        key = self.readers[name] = files.generate()
        text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.recipients.add(
            name, role=role, patients=patients, public_key=text.decode(), today=TODAY
        )
        self.ward.refresh()

    def narrow(self, name: str, patient: str) -> None:
        """Let somebody read one patient only."""
        with change(self._folder / "recipients.json") as entries:
            entries[name]["patients"] = [patient]
        self.ward.refresh()

    def intake(
        self,
        *,
        recent: Iterable[bytes] = (),
        check_room: Callable[[Lane, int], None] = lambda lane, size: None,
        book: AlarmBook | None = None,
    ) -> Intake:
        return Intake(
            gateway="gateway",
            ward=self.ward,
            triage=Triage(TriageConfig()),
            epochs=Epochs(EpochsConfig(), "gateway", self.key, self.certificate, os.urandom),
            recent=RecentKeys(recent),
            check_room=check_room,
            book=book or AlarmBook(bytes(32), os.urandom, lambda kept, gone: None),
            random=os.urandom,
        )

    def keep(self, envelope: Envelope | None) -> None:
        if envelope is not None:
            self.envelopes[envelope.epoch] = envelope

    def open(self, entry: Entry, reader: str) -> Opened:
        """Raises IntegrityError when it is not for this reader, or not as it was sealed."""
        header = record.Header(entry.id, entry.patient, entry.lane, entry.received_ms, entry.epoch)
        content_key = open_envelope_untrusted(self.envelopes[entry.epoch], self.readers[reader])
        plaintext = encrypt0.open_untrusted(
            entry.sealed, content_key, record.external_aad("gateway", *header[:4])
        )
        return Opened(record.decode_untrusted(plaintext), header)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder)
