"""No bytes from the network raise anything but DtlsError out of the DTLS room."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies, decode_client_hello_untrusted
from gateway.dtls.credentials import PreSharedKey
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.records import Opener, split_untrusted
from gateway.dtls.server import Config, Server
from gateway.errors import DtlsError

PATH = Path(0, ("192.0.2.1", 1))
KEY = b"k" * 16


class OneDevice:
    def psk(self, identity: bytes) -> PreSharedKey | None:
        return PreSharedKey("d", KEY) if identity == b"d" else None


def server() -> Server:
    source = random.Random(3).randbytes
    engines = OpensslServer(OneDevice(), source(32), psk_suites())
    return Server(Config(), engines, Cookies(source(32), source), first_number=1)


def flights() -> list[bytes]:
    """The client's datagrams of one whole handshake."""
    one, client, sent = server(), None, []
    client = Client(OpensslClient(b"d", KEY, ["PSK-AES128-CCM8"]), mtu=1232, now=0.0)
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
@given(st.lists(mutated(), max_size=12))
def test_a_server_takes_any_datagrams_and_still_shakes_hands(datagrams: list[bytes]) -> None:
    one = server()
    for datagram in datagrams:
        one.receive(datagram, PATH, 0.0)
    one.outgoing = []
    client = Client(OpensslClient(b"d", KEY, ["PSK-AES128-CCM8"]), mtu=1232, now=1.0)
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
