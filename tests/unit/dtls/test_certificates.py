"""Handshakes with certificates, against real OpenSSL clients in memory."""

from __future__ import annotations

import random
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL._util import lib

from certs import files
from certs.authority import Authority
from certs.profiles import CLOUD_STORE, DEVICE, DOCTOR, GATEWAY, Profile
from gateway.dtls.credentials import Identity, PreSharedKey, Refusal
from gateway.dtls.engines.openssl import (
    OpensslCertifiedClient,
    OpensslClient,
    certificate_suites,
)
from gateway.dtls.records import ALERT, HANDSHAKE, SUITES, split_untrusted
from gateway.dtls.server import Config
from gateway.errors import DtlsError

KEY = b"sixteen bytes ok"
DAY = 86_400.0
WALL = time.time()
"""OpenSSL looks at the system's clock."""

WARD = Authority.passing("Ward 7", wall=WALL - 90 * DAY)
OTHER = Authority.passing("Ward 8", wall=WALL - 90 * DAY)
NAMESAKE = Authority.passing("Ward 7", wall=WALL - 90 * DAY)

_CERTIFICATE_VERIFY = 15
_SMALL_MTU = 300


def identity(
    kind: Profile = DEVICE,
    name: str = "device-1",
    *,
    authority: Authority = WARD,
    wall: float = WALL,
    days: int | None = None,
) -> Identity:
    """Somebody who believes in ward 7."""
    key = files.generate()
    hosts = ("localhost",) if kind.hosts else ()
    certificate = authority.issue(kind, name, key.public_key(), wall=wall, hosts=hosts, days=days)
    return Identity(certificate, key, WARD.certificate)


class Roster:
    """Lets every device of the ward in but device-7; device-1 has a key, too."""

    def psk(self, identity: bytes) -> PreSharedKey | None:
        return PreSharedKey("device-1", KEY) if identity == b"device-1" else None

    def bearer(self, certificate: x509.Certificate) -> str | Refusal:
        *_, role, name = (str(one.value) for one in certificate.subject)
        if role != DEVICE.role:
            return Refusal.WRONG_ROLE
        return Refusal.WITHDRAWN if name == "device-7" else name


@pytest.fixture
def certified_world(make_world):
    """Makes worlds whose server has a certificate."""

    def make(gateway: Identity | None = None, mtu: int = Config().mtu):
        return make_world(
            Config(mtu=mtu),
            credentials=Roster(),
            suites=SUITES,
            identity=gateway or identity(GATEWAY, "gateway"),
        )

    return make


def bracelet(shown: Identity, *suites: str) -> OpensslCertifiedClient:
    return OpensslCertifiedClient(shown, suites or certificate_suites())


def refusal(world, link) -> bytes:
    """The one alert of the gateway, as it ends a handshake for both."""
    alerts: list[bytes] = []
    with pytest.raises(DtlsError):
        _shake_hands(world, link, alerts)
    assert world.server.half_open() == 0
    assert not world.server.associations()
    assert world.server.counts["handshakes_failed"] == 1
    (alert,) = alerts
    return alert[13:]


def _shake_hands(world, link, alerts: list[bytes]) -> None:
    for _ in range(4):
        link.to_server()
        alerts += [one for one, _ in world.server.outgoing if one[0] == ALERT]
        link.to_client()


def handshake_types(datagrams: list[bytes]) -> list[int]:
    records = [one for datagram in datagrams for one in split_untrusted(datagram)]
    return [one[13] if one[0] == HANDSHAKE and one[4] == 0 else -one[0] for one in records]


@pytest.mark.parametrize("suite", certificate_suites())
def test_a_node_is_known_by_its_certificate(certified_world, suite) -> None:
    link = certified_world().connect(bracelet(identity(), suite))
    association = link.shake_hands()
    assert (association.endpoint, association.suite) == ((100, "device-1"), suite)
    link.client.send(b"up")
    link.to_server()
    assert link.received == [b"up"]
    assert link.client.receive(association.protect(b"down"), 0.0) == [b"down"]


def test_keys_and_certificates_share_a_port(certified_world) -> None:
    world = certified_world()
    by_key = world.link(1).shake_hands()
    by_certificate = world.connect(bracelet(identity(name="device-2")), 2).shake_hands()
    assert by_key.endpoint.device == "device-1"
    assert by_certificate.endpoint.device == "device-2"
    assert world.server.associations() == [by_key, by_certificate]


class Both(OpensslCertifiedClient):
    """A node that has a key, too."""

    def __init__(self, shown: Identity, suites: list[str]) -> None:
        super().__init__(shown, suites)
        self.keyed = OpensslClient(b"device-1", KEY, suites)
        lib.SSL_CTX_set_psk_client_callback(self.context._context, self.keyed._callback)


@pytest.mark.parametrize("best", range(len(SUITES)))
def test_the_gateway_chooses_in_its_own_order(certified_world, best) -> None:
    offered = list(SUITES)[best:]
    link = certified_world().connect(Both(identity(), offered[::-1]))
    assert link.shake_hands().suite == offered[0]


@pytest.mark.parametrize(
    ("shown", "number"),
    [
        (identity(authority=OTHER), 48),
        (identity(authority=NAMESAKE), 48),
        (identity(wall=WALL - 20 * DAY, days=10), 45),
        (identity(wall=WALL + 10 * DAY), 42),
        (identity(name="device-7"), 44),
        (identity(CLOUD_STORE, "cloud"), 43),
        (identity(DOCTOR, "doctor"), 43),
    ],
    ids=["other-ca", "namesake", "expired", "not-yet", "revoked", "server-only", "doctor"],
)
def test_a_certificate_that_does_not_count_gets_its_alert(certified_world, shown, number) -> None:
    """RFC 5246 section 7.2.2: unknown_ca, certificate_expired, bad_certificate and so on."""
    world = certified_world()
    assert refusal(world, world.connect(bracelet(shown))) == bytes((2, number))


def test_a_node_without_a_certificate_is_refused(certified_world) -> None:
    class Bare(OpensslCertifiedClient):
        def _certify(self, identity, judge) -> None:
            pass

    world = certified_world()
    link = world.connect(Bare(identity(), certificate_suites()))
    assert refusal(world, link) == bytes((2, 40))  # handshake_failure


def test_a_certificate_is_no_use_without_its_key(certified_world) -> None:
    """It is public: what proves its bearer is the signature over the handshake."""
    world = certified_world()
    link = world.connect(bracelet(identity()))
    for _ in range(2):
        link.to_server()
        link.to_client()
    forged = []
    for datagram in link.client.outgoing:
        for record in split_untrusted(datagram):
            if record[0] == HANDSHAKE and record[13] == _CERTIFICATE_VERIFY and record[4] == 0:
                forged.append(record[:-1] + bytes((record[-1] ^ 1,)))
            else:
                forged.append(record)
    link.client.outgoing = forged
    assert refusal(world, link) == bytes((2, 51))  # decrypt_error


def test_a_key_on_another_curve_is_refused(certified_world) -> None:
    """Level 0 of OpenSSL, which CCM_8 needs, would take it."""
    key = ec.generate_private_key(ec.SECP384R1())
    like = identity().certificate
    builder = x509.CertificateBuilder(
        issuer_name=like.issuer,
        subject_name=like.subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=like.not_valid_before_utc,
        not_valid_after=like.not_valid_after_utc,
        extensions=list(like.extensions),
    )
    careless = builder.sign(WARD._key, hashes.SHA256())
    factory = bracelet(identity())
    lib.SSL_CTX_set1_curves_list(factory.context._context, b"P-256:P-384")
    factory.context.use_certificate(careless)
    factory.context.use_privatekey(key)
    world = certified_world()
    assert refusal(world, world.connect(factory)) == bytes((2, 47))  # illegal_parameter


def test_a_signature_over_sha_1_is_not_asked_for(certified_world) -> None:
    factory = bracelet(identity())
    lib.SSL_CTX_set1_sigalgs_list(factory.context._context, b"ECDSA+SHA1")
    world = certified_world()
    assert refusal(world, world.connect(factory)) == bytes((2, 40))


@pytest.mark.parametrize(
    "gateway",
    [
        identity(GATEWAY, "gateway", authority=OTHER),
        identity(CLOUD_STORE, "cloud"),
        identity(GATEWAY, "gateway", wall=WALL - 20 * DAY, days=10),
    ],
    ids=["other-ca", "cloud-store", "expired"],
)
def test_a_bracelet_does_not_believe_just_any_gateway(certified_world, gateway) -> None:
    world = certified_world(gateway)
    with pytest.raises(DtlsError, match="certificate verify failed"):
        world.connect(bracelet(identity())).shake_hands()
    assert not world.server.associations()


def test_flights_larger_than_a_datagram_are_cut_to_size(certified_world) -> None:
    world = certified_world(mtu=_SMALL_MTU)
    link = world.connect(bracelet(identity()))
    sizes = []
    for _ in range(4):
        sizes += [len(one) for one in link.client.outgoing]
        link.to_server()
        sizes += [len(one) for one, _ in world.server.outgoing]
        link.to_client()
    assert link.association is not None
    assert max(sizes) <= _SMALL_MTU
    assert len(sizes) > 10


@pytest.mark.parametrize("mtu", [_SMALL_MTU, Config().mtu])
def test_large_flights_survive_loss_doubling_and_disorder(certified_world, mtu) -> None:
    world = certified_world(mtu=mtu)
    factory = bracelet(identity())
    for seed in range(12):
        link = world.connect(factory, seed)
        assert link.weathered(random.Random(seed)), f"seed {seed}"
        link.client.send(b"arrived")
        link.to_server()
        assert link.received[-1] == b"arrived", f"seed {seed}"


def test_a_flight_in_any_order_ends_in_an_association(certified_world) -> None:
    """Finished before CertificateVerify, fragments backwards: a radio may do that."""
    for seed in range(30):
        world = certified_world(mtu=_SMALL_MTU)
        link = world.connect(bracelet(identity()))
        for _ in range(2):
            link.to_server()
            link.to_client()
        assert link.client.outgoing
        random.Random(seed).shuffle(link.client.outgoing)
        link.to_server()
        for tick in range(1, 60):
            if link.association is not None and link.client.association is not None:
                break
            link.now = tick * 0.5
            link.to_client()
            link.client.handle_timer(link.now)
            link.to_server()
            world.server.sweep(link.now)
        assert link.client.association is not None, f"seed {seed}"
        link.client.send(b"up")
        link.to_server()
        assert link.received == [b"up"], f"seed {seed}"


def test_revoking_ends_a_handshake_whose_certificate_was_good_a_moment_ago(
    certified_world,
) -> None:
    world = certified_world(mtu=_SMALL_MTU)
    link = world.connect(bracelet(identity()))
    for _ in range(2):
        link.to_server()
        link.to_client()
    flight, link.client.outgoing = link.client.outgoing, []
    before = handshake_types(flight).index(_CERTIFICATE_VERIFY)
    records = [one for datagram in flight for one in split_untrusted(datagram)]
    for record in records[:before]:
        link.deliver(record)
    assert world.server.half_open() == 1
    world.server.close("device-1", "revoked")
    for record in records[before:]:
        link.deliver(record)
    assert world.server.half_open() == 0
    assert not world.server.associations()
