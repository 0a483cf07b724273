"""Addresses: what Python's own socket module makes of them, and there and back."""

from __future__ import annotations

import socket

import pytest

from gateway.dtls.association import Path
from gateway.ingress.addresses import LENGTH, PEERS, Names, Paths


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


def test_a_path_is_made_once_from_the_second_time_on() -> None:
    paths, names = Paths(0), Names()
    path = Path(0, ("192.0.2.1", 5684))
    assert names[path] == names[path]
    name = names[path]
    assert names[Path(*path)] is name
    assert paths[name] == paths[name] == path
    assert paths[name] is paths[bytes(bytearray(name))]


def test_addresses_that_come_once_take_no_memory() -> None:
    paths, names = Paths(0), Names()
    for n in range(2 * PEERS):
        path = Path(0, (f"10.0.{n >> 8}.{n & 255}", n))
        assert paths[names[path]] == path
    assert not paths
    assert not names


def test_forged_addresses_take_no_more_memory_than_that() -> None:
    paths, names = Paths(0), Names()
    for n in range(4 * PEERS + 20):
        path = Path(0, (f"10.0.{n >> 9}.{n >> 1 & 255}", n >> 1))
        assert paths[names[path]] == path
        assert len(paths) <= PEERS
        assert len(names) <= PEERS
