"""Addresses: what Python's own socket module makes of them, and there and back."""

from __future__ import annotations

import socket

import pytest

from gateway.dtls.association import Path
from gateway.ingress.addresses import LENGTH, Names, Paths, Peers


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 5684),
        ("255.255.255.255", 65_535),
        ("0.0.0.0", 0),
        ("::1", 5684, 0, 0),
        ("2001:db8::ff00:42:8329", 61_616, 0x12345, 0),
        ("fe80::1", 1, 0, 7),
    ],
)
def test_an_address_comes_back_as_it_was(address) -> None:
    path = Path(3, address)
    name = Names()[path]
    assert Paths(3)[name] == path
    assert len(name) == LENGTH[socket.AF_INET6 if len(address) == 4 else socket.AF_INET]


def test_what_is_kept_is_made_once() -> None:
    peers = Peers(0)
    path = Path(0, ("192.0.2.1", 5684))
    peers.keep(path)
    name = peers.names[Path(0, ("192.0.2.1", 5684))]
    assert peers.names[path] is name
    assert peers.paths[bytes(bytearray(name))] is path
    peers.forget(path)
    peers.forget(path)
    assert not peers.paths
    assert not peers.names


def test_forged_addresses_take_no_memory() -> None:
    peers = Peers(0)
    for n in range(1000):
        path = Path(0, (f"10.0.{n >> 8}.{n & 255}", n))
        for _ in range(3):
            assert peers.paths[peers.names[path]] == path
    assert not peers.paths
    assert not peers.names
