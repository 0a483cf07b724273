"""A ward in a temporary folder: an authority, a gateway, a cloud store, readers; all real."""

from __future__ import annotations

import os
import ssl
import time
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from certs import files
from certs.authority import Authority
from certs.profiles import CLOUD_STORE, GATEWAY, PROFILES, Profile
from cloud.config import Config
from gateway.cose.encrypt0 import Sealer
from gateway.cose.envelope import Envelope, seal_envelope
from gateway.cose.keys import thumbprint, thumbprint_uri
from gateway.cose.record import Header, Plaintext, encode, encode_batch, external_aad
from gateway.lane import Lane
from gateway.reader import profile as reader_profile
from gateway.senml.record import Record
from gateway.senml.senml_cbor import encode_cbor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

# How long an example takes is a busy host's business.
settings.register_profile("any host", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any host")
# For a second run of what was run at length: `pytest --hypothesis-profile=brief`.
settings.register_profile("brief", settings.get_profile("any host"), max_examples=20)

PATIENT = bytes(range(16))


class Party(NamedTuple):
    """Somebody with a certificate."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    key_path: Path
    certificate_path: Path


class Reader(NamedTuple):
    """A recipient with a profile folder."""

    party: Party
    seal_key: ec.EllipticCurvePrivateKey
    folder: Path

    @property
    def kid(self) -> bytes:
        return thumbprint(self.seal_key.public_key())


class Ward:
    """Makes what a test needs, with the product's own code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall = time.time()
        self.ca = folder / "ca"
        self.ca.mkdir()
        self.authority = Authority.create(self.ca, "Ward 7", wall=self.wall)
        self.gateway = self.party(GATEWAY, "gateway-1", hosts=("127.0.0.1",))
        self.cloud = self.party(CLOUD_STORE, "cloud-1", hosts=("127.0.0.1", "localhost"))
        self._ids = count(1)

    def party(
        self,
        kind: Profile,
        name: str,
        *,
        hosts: Sequence[str] = (),
        kid_uri: str | None = None,
        authority: Authority | None = None,
    ) -> Party:
        key = files.generate()
        certificate = (authority or self.authority).issue(
            kind, name, key.public_key(), wall=self.wall, hosts=hosts, kid_uri=kid_uri
        )
        folder = self.folder / f"{kind.role}-{name}-{os.urandom(4).hex()}"
        folder.mkdir()
        files.write_private(folder / "key.pem", key)
        files.write_certificate(folder / "certificate.pem", certificate)
        return Party(name, key, certificate, folder / "key.pem", folder / "certificate.pem")

    def reader(self, name: str, role: str, *, cloud: str = "https://127.0.0.1:1") -> Reader:
        seal_key = files.generate()
        party = self.party(PROFILES[role], name, kid_uri=thumbprint_uri(seal_key.public_key()))
        folder = self.folder / "recipients" / name
        reader_profile.write(
            folder,
            name=name,
            role=role,
            cloud=cloud,
            authority=self.authority.certificate,
            certificate=party.certificate,
            tls_key=party.key,
            seal_key=seal_key,
        )
        return Reader(party, seal_key, folder)

    def config(self, **changes: object) -> Config:
        values: dict[str, object] = {
            "folder": self.folder,
            "listen": "127.0.0.1:0",
            "certificate": self.cloud.certificate_path,
            "key": self.cloud.key_path,
            "ca": self.ca / "ca.pem",
        }
        return Config(**(values | changes))  # type: ignore[arg-type]

    def epoch(
        self,
        readers: Sequence[Reader],
        *,
        lane: Lane = Lane.ROUTINE,
        patient: bytes = PATIENT,
        gateway: Party | None = None,
    ) -> tuple[Sealer, Envelope]:
        signer = gateway or self.gateway
        content_key, epoch = os.urandom(32), os.urandom(16)
        envelope = seal_envelope(
            content_key,
            epoch=epoch,
            gateway=signer.name,
            patient=patient,
            lane=lane,
            created_ms=int(self.wall * 1000),
            recipients=[reader.seal_key.public_key() for reader in readers],
            signing_key=signer.key,
            certificate=signer.certificate,
            random=os.urandom,
        )
        return Sealer(epoch, content_key), envelope

    def record(
        self,
        opened: tuple[Sealer, Envelope],
        *,
        value: float = 72,
        patient: str = "bed-3",
        received_ms: int | None = None,
        sealed: tuple[int, bytes] | None = None,
        gateway: str | None = None,
    ) -> tuple[Header, bytes]:
        sealer, envelope = opened
        header = Header(
            id=next(self._ids).to_bytes(16, "big"),
            patient=envelope.patient,
            lane=envelope.lane,
            received_ms=int(self.wall * 1000) if received_ms is None else received_ms,
            epoch=envelope.epoch,
        )
        pack = (
            Record("bracelet-1/hr", "1/min", value, None, None, None, None, self.wall, None),
            Record("bracelet-1/rhythm", None, None, "N", None, None, None, self.wall, None),
        )
        plaintext = Plaintext(
            device="bracelet-1",
            patient=patient,
            received_ms=header.received_ms,
            clock="synchronised",
            senml=encode_cbor(pack) if sealed is None else None,
            sealed=sealed,
            assessment={
                "priority": "emergency" if envelope.lane is Lane.EMERGENCY else "routine",
                "findings": [],
                "news2": None,
            },
        )
        aad = external_aad(gateway or envelope.gateway, *header[:4])
        return header, sealer.seal(encode(plaintext), aad)

    def batch(self, *items: tuple[Header, bytes], gateway: Party | None = None) -> bytes:
        signer = gateway or self.gateway
        return encode_batch(signer.key, signer.name, items)

    def tls(self, party: Party) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca / "ca.pem")
        context.load_cert_chain(party.certificate_path, party.key_path)
        return context


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    """See Ward."""
    return Ward(tmp_path)
