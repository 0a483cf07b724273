"""Networks, who makes room, and hosts whose handshakes fail."""

from __future__ import annotations

import pytest

from gateway.dtls.association import Path
from gateway.dtls.hosts import (
    FAILURES,
    FAILURES_PER_S,
    HOSTS,
    Failures,
    answerable,
    networks,
    oldest_of_the_busiest,
)


def test_an_ipv4_address_is_a_host() -> None:
    assert networks("192.0.2.77") == ("192.0.2", "192.0.2.77", "192.0.2.77")


def test_an_ipv6_host_is_a_64() -> None:
    mine, neighbour, other = (
        networks(one) for one in ("2001:db8:1:2::3", "2001:db8:1:2:f::4", "2001:db8:1:3::3")
    )
    assert mine.host == neighbour.host != other.host
    assert mine.site == other.site
    assert mine.address != neighbour.address


@pytest.mark.parametrize(
    "address",
    ["224.0.0.1", "239.255.255.255", "255.255.255.255", "0.0.0.0", "ff02::1", "ff0e::fd", "::"],
)
def test_a_group_is_nobody_to_answer(address) -> None:
    assert not answerable(address, 5684)


@pytest.mark.parametrize(
    "address", ["223.255.255.254", "9.0.0.1", "30.1.1.1", "127.0.0.1", "fe80::1", "ff::1", "::1"]
)
def test_a_host_may_be_answered_but_not_at_port_0(address) -> None:
    assert answerable(address, 1)
    assert not answerable(address, 0)


def _oldest(*addresses: str) -> str:
    waiting = [(Path(0, (one, n)), networks(one)) for n, one in enumerate(addresses)]
    return str(oldest_of_the_busiest(waiting).address[0])


def test_the_oldest_of_the_busiest_host_makes_room() -> None:
    assert _oldest("192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3") == "192.0.2.2"


def test_the_busiest_site_comes_before_the_busiest_host() -> None:
    ward = ["10.0.0.5"] * 3
    assert _oldest(*ward, *(f"192.0.2.{n}" for n in range(4))) == "192.0.2.0"


def test_hosts_of_one_64_are_told_apart_last() -> None:
    assert _oldest("2001:db8::1", "2001:db8::2", "2001:db8::2") == "2001:db8::2"


def test_a_host_that_failed_often_waits_and_then_has_some_turns() -> None:
    failures = Failures()
    for _ in range(FAILURES):
        assert failures.may_begin("a", 0, 0.0)
        failures.add("a", 0.0)
    assert not failures.may_begin("a", 0, 0.0)
    assert failures.may_begin("b", 0, 0.0)
    now = 1.5 / FAILURES_PER_S
    assert failures.may_begin("a", 0, now)
    failures.add("a", now)
    assert not failures.may_begin("a", 0, now)


def test_those_under_way_may_fail_too() -> None:
    failures = Failures()
    assert failures.may_begin("a", 1000, 0.0)
    failures.add("a", 0.0)
    assert failures.may_begin("a", FAILURES - 2, 0.0)
    assert not failures.may_begin("a", FAILURES - 1, 0.0)


def test_those_under_way_do_not_shut_the_others_of_their_host_out() -> None:
    """Handshakes are left half open for nothing: a ward may be one host to us."""
    failures = Failures()
    failures.add("a", 0.0)
    begun = 0
    for tick in range(1000):
        begun += failures.may_begin("a", 1000, tick / 1000)
    assert FAILURES_PER_S - 1 <= begun <= FAILURES_PER_S


def test_who_failed_long_ago_is_forgotten() -> None:
    failures = Failures()
    failures.add("a", 0.0)
    failures.sweep(FAILURES / FAILURES_PER_S)
    assert len(failures) == 1
    failures.sweep(FAILURES / FAILURES_PER_S + 0.1)
    assert len(failures) == 0


def test_those_who_are_remembered_are_bounded() -> None:
    """The one that failed longest ago is forgotten first."""
    failures = Failures()
    for n in range(HOSTS):
        failures.add(str(n), 0.0)
    for _ in range(FAILURES):
        failures.add("0", 0.0)
    for n in range(HOSTS - 1):
        failures.add(f"more {n}", 0.0)
    assert len(failures) == HOSTS
    assert not failures.may_begin("0", 0, 0.0)
