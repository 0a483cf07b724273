"""Who is asking, and whose envelopes are taken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import Authority
from certs.profiles import DOCTOR, GATEWAY
from cloud.auth import UnknownPeerError, envelope_untrusted, principal_of, tls_context
from gateway.errors import ConfigError, ForbiddenError, PeerError
from gateway.lane import Lane

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Party, Ward

YEAR = 365 * 86_400


class Connection(asyncio.BaseTransport):
    """One whose TLS has let a certificate in, or has none."""

    def __init__(self, certificate: bytes | None) -> None:
        super().__init__()
        self._certificate = certificate

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "ssl_object" else default

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._certificate


def connection(party: Party) -> Connection:
    return Connection(party.certificate.public_bytes(Encoding.DER))


def test_a_caller_is_who_the_certificate_says(ward: Ward) -> None:
    """Name, role, and the key that opens envelopes."""
    reader = ward.reader("anna", "doctor")
    principal = principal_of(connection(reader.party), wall=ward.wall)
    assert principal[:3] == ("anna", "doctor", reader.kid)
    sight = principal.sight({"doctor": frozenset({Lane.ROUTINE})})
    assert sight == (reader.kid, {Lane.ROUTINE})
    assert principal.sight({}).lanes == frozenset()


def test_a_certificate_ends_also_in_the_middle_of_a_connection(ward: Ward) -> None:
    """TLS looked at the dates once; every request does."""
    party = ward.reader("anna", "doctor").party
    for wall in (ward.wall - YEAR, ward.wall + 2 * YEAR):
        with pytest.raises(UnknownPeerError, match="date"):
            principal_of(connection(party), wall=wall)


@pytest.mark.parametrize("transport", [None, Connection(None), Connection(b"no certificate")])
def test_nobody_is_nobody(transport: Connection | None) -> None:
    """A connection that has gone, one without a certificate, one with garbage."""
    with pytest.raises(UnknownPeerError):
        principal_of(transport, wall=1.8e9)


def test_a_reader_without_a_sealing_key_has_no_sight(ward: Ward) -> None:
    """Envelopes name keys, not people."""
    principal = principal_of(connection(ward.party(DOCTOR, "anna")), wall=ward.wall)
    with pytest.raises(ForbiddenError, match="sealing key"):
        principal.sight({})


def test_an_envelope_is_taken_from_the_gateway_that_signed_it(ward: Ward) -> None:
    """Long after, too: it may have waited for the cloud while the certificate ran out."""
    _, envelope = ward.epoch([ward.reader("anna", "doctor")])
    taken = envelope_untrusted(
        envelope.message,
        gateway="gateway-1",
        epoch=envelope.epoch,
        ca=ward.authority.certificate,
    )
    assert taken == envelope


def test_an_envelope_that_says_something_else_is_refused(ward: Ward, tmp_path: Path) -> None:
    """Other gateway, other epoch, signer of another role or ward, signed after its time."""
    doctor = ward.reader("anna", "doctor")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Authority.create(tmp_path / "elsewhere", "Ward 7", wall=ward.wall)
    ca = ward.authority.certificate
    _, good = ward.epoch([doctor])
    expired = ward.gateway._replace(
        certificate=ward.authority.issue(
            GATEWAY, "gateway-1", ward.gateway.key.public_key(), wall=ward.wall - YEAR, days=30
        )
    )
    for signer in (
        ward.party(GATEWAY, "gateway-2"),
        ward.party(DOCTOR, "gateway-1"),
        ward.party(GATEWAY, "gateway-1", authority=elsewhere),
        expired,
    ):
        _, bad = ward.epoch([doctor], gateway=signer)
        with pytest.raises(ForbiddenError):
            envelope_untrusted(bad.message, gateway="gateway-1", epoch=bad.epoch, ca=ca)
    with pytest.raises(ForbiddenError, match="another epoch"):
        envelope_untrusted(good.message, gateway="gateway-1", epoch=b"x" * 16, ca=ca)
    for garbage in (b"", good.message[:-1], good.message + b"\x00"):
        with pytest.raises(PeerError):
            envelope_untrusted(garbage, gateway="gateway-1", epoch=good.epoch, ca=ca)


def test_files_that_cannot_be_used_are_named_at_once(ward: Ward) -> None:
    """Certificate, key and authority."""
    missing = ward.folder / "missing.pem"
    with pytest.raises(ConfigError) as caught:
        tls_context(ward.config(ca=missing, key=ward.gateway.key_path))
    assert len(caught.value.problems) == 2
