"""No bytes from the network raise anything but DtlsError out of the DTLS room."""

from __future__ import annotations

import contextlib
import random
import time
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE, GATEWAY, Profile
from gateway.dtls.association import Path
from gateway.dtls.client import Client, ClientFactory
from gateway.dtls.cookie import Cookies, decode_client_hello_untrusted
from gateway.dtls.credentials import Identity, PreSharedKey, Refusal
from gateway.dtls.engines.openssl import (
    OpensslCertifiedClient,
    OpensslClient,
    OpensslServer,
    certificate_suites,
)
from gateway.dtls.records import SUITES, Opener, split_untrusted
from gateway.dtls.server import Config, Server
from gateway.errors import DtlsError

PATH = Path(0, ("192.0.2.1", 1))
KEY = b"k" * 16


def identity(authority: Authority, kind: Profile, *hosts: str) -> Identity:
    key = files.generate()
    shown = authority.issue(kind, "d", key.public_key(), wall=time.time(), hosts=hosts)
    return Identity(shown, key, authority.certificate)


AUTHORITY = Authority.passing("Ward 7", wall=time.time())
GATEWAY_ITSELF = identity(AUTHORITY, GATEWAY, "localhost")
SOMEBODY = identity(AUTHORITY, DEVICE)


class OneDevice:
    def psk(self, identity: bytes) -> PreSharedKey | None:
        return PreSharedKey("d", KEY) if identity == b"d" else None

    def bearer(self, certificate: object) -> str | Refusal:
        return "d" if certificate == SOMEBODY.certificate else Refusal.WITHDRAWN


CLIENTS = (
    OpensslClient(b"d", KEY, ["PSK-AES128-CCM8"]),
    OpensslCertifiedClient(SOMEBODY, certificate_suites()),
)
"""A node with a key, and one with a certificate."""


def server() -> Server:
    source = random.Random(3).randbytes
    engines = OpensslServer(OneDevice(), source(32), SUITES, GATEWAY_ITSELF)
    return Server(Config(), engines, Cookies(source(32), source), first_number=1)


def flights() -> list[bytes]:
    """The clients' datagrams of a whole handshake each."""
    sent = []
    for factory in CLIENTS:
        one, client = server(), Client(factory, mtu=600, now=0.0)
        for _ in range(3):
            for datagram in client.outgoing:
                sent.append(datagram)
                one.receive(datagram, PATH, 0.0)
            client.outgoing = []
            for datagram, _ in one.outgoing:
                client.receive(datagram, 0.0)
            one.outgoing = []
    return sent


FLIGHTS = flights()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real handshake datagram, damaged."""
    datagram = bytearray(draw(st.sampled_from(FLIGHTS)))
    for _ in range(draw(st.integers(0, 4))):
        datagram[draw(st.integers(0, len(datagram) - 1))] = draw(st.integers(0, 255))
    return bytes(datagram[: draw(st.integers(0, len(datagram)))]) + draw(st.binary(max_size=8))


@given(st.one_of(st.binary(max_size=200), mutated()))
def test_decoders_raise_dtls_errors_only(data: bytes) -> None:
    for record in split_untrusted(data):
        assert len(record) >= 13
    with contextlib.suppress(DtlsError):
        decode_client_hello_untrusted(data)
    with contextlib.suppress(DtlsError):
        Opener("PSK-AES128-CCM8", KEY, b"salt").open_untrusted(data)


@settings(max_examples=150)
@given(st.lists(mutated(), max_size=12), st.sampled_from(CLIENTS))
def test_a_server_takes_any_datagrams_and_still_shakes_hands(
    datagrams: list[bytes], factory: ClientFactory
) -> None:
    one = server()
    for datagram in datagrams:
        one.receive(datagram, PATH, 0.0)
    one.outgoing = []
    client = Client(factory, mtu=1232, now=1.0)
    for _ in range(4):
        for datagram in client.outgoing:
            one.receive(datagram, PATH, 1.0)
        client.outgoing = []
        for datagram, _ in one.outgoing:
            client.receive(datagram, 1.0)
        one.outgoing = []
    assert client.association is not None
    client.send(b"hello")
    received = one.receive(client.outgoing[0], PATH, 1.0)
    assert received is not None
    assert list(received[1]) == [b"hello"]


DAMAGE = st.lists(st.tuples(st.integers(0, 599), st.integers(0, 255)), max_size=2)
"""Places, counted round the datagram's end, and what stands there then."""


@settings(max_examples=100)
@given(st.lists(st.tuples(DAMAGE, st.integers(0, 2)), min_size=4, max_size=4))
def test_a_damaged_certificate_flight_lets_nobody_in_and_keeps_nobody_out(
    fates: list[tuple[list[tuple[int, int]], int]],
) -> None:
    """Each datagram of the second flight as it is, damaged, lost or doubled; with a right cookie,
    so that all of it reaches OpenSSL."""
    one, client = server(), Client(CLIENTS[1], mtu=600, now=0.0)
    for _ in range(2):
        for datagram in client.outgoing:
            one.receive(datagram, PATH, 0.0)
        client.outgoing = []
        for datagram, _ in one.outgoing:
            client.receive(datagram, 0.0)
        one.outgoing = []
    assert one.half_open() == 1
    for datagram, (damage, times) in zip(client.outgoing, cycle(fates)):
        changed = bytearray(datagram)
        for place, value in damage:
            changed[place % len(changed)] = value
        for _ in range(times):
            one.receive(bytes(changed), PATH, 0.0)
    assert all(association.endpoint.device == "d" for association in one.associations())
    one.outgoing = []
    again = Client(CLIENTS[1], mtu=600, now=1.0)
    for _ in range(4):
        for datagram in again.outgoing:
            one.receive(datagram, PATH, 1.0)
        again.outgoing = []
        for datagram, _ in one.outgoing:
            again.receive(datagram, 1.0)
        one.outgoing = []
    assert again.association is not None
