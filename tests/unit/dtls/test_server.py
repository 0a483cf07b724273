"""The table of associations, against real OpenSSL clients in memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from gateway.dtls import handshake, server
from gateway.dtls.association import Path
from gateway.dtls.engines.openssl import HandshakeError, OpensslEngine, psk_suites
from gateway.dtls.handshake import DEADLINE_S, HandshakeOver
from gateway.dtls.hosts import FAILURES
from gateway.dtls.records import (
    APPLICATION_DATA,
    DTLS_1_2,
    HANDSHAKE,
    HEADER,
    Protector,
    split_untrusted,
)
from gateway.dtls.server import HALF_OPEN, Change, Config
from gateway.errors import DtlsError
from tests.experiments.rigs.dtls_server import Inside

from .conftest import path

if TYPE_CHECKING:
    from .conftest import Link


@pytest.mark.parametrize("suite", psk_suites())
def test_a_node_shakes_hands_and_both_sides_understand_each_other(world, suite) -> None:
    link = world.link(suite=suite)
    association = link.shake_hands()
    assert association.endpoint == (100, "device-1")
    assert association.suite == suite
    assert [event.change for event in world.server.events] == [Change.OPENED]
    for n in range(3):
        link.client.send(b"up %d" % n)
        link.to_server()
        assert link.client.receive(association.protect(b"down"), 0.0) == [b"down"]
    assert link.received == [b"up 0", b"up 1", b"up 2"]


def test_openssl_makes_no_cookies_of_its_own(world) -> None:
    """Ours was checked before; a hello that lost it on the way in is a mistake, not a request."""
    (hello,) = world.link().client.outgoing
    engine = world.engines.engine(1232)
    with pytest.raises(HandshakeError):
        engine.feed(hello)
    assert engine.flight() == b""


def test_nothing_is_kept_before_the_cookie_comes_back(world) -> None:
    for n in range(1000):
        link = world.link(n)
        link.to_server()
    assert world.server.half_open() == 0
    assert not world.server.associations()
    sent = sum(len(datagram) for datagram, _ in world.server.outgoing)
    assert sent == 1000 * 60


def refused(world, number: int, now: float, key: bytes = b"another 16 bytes") -> Link:
    """A node with a wrong key, up to its Finished."""
    link = world.link(number, key=key, now=now)
    for _ in range(2):
        link.to_server()
        link.to_client()
    link.to_server()
    return link


@pytest.mark.parametrize(
    ("identity", "key", "who"),
    [("device-1", b"another 16 bytes", "device-1"), ("nobody", b"sixteen bytes ok", "somebody")],
)
def test_a_wrong_key_and_an_unknown_name_get_the_same_alert(world, identity, key, who) -> None:
    link = world.link(identity=identity, key=key)
    link.to_server()
    link.to_client()
    link.to_server()
    link.to_client()
    link.to_server()
    assert not world.server.outgoing
    assert world.server.get_timer(0.0) == 1.0
    world.server.sweep(1.0)
    ((alert, _),) = world.server.outgoing
    assert alert[0] == 21
    assert alert[13:] == bytes((2, 51))
    assert world.server.half_open() == 0
    assert not world.server.associations()
    assert world.server.refused == {"unknown identity or wrong key": (1, f"{who} at 192.0.2.1")}
    with pytest.raises(DtlsError):
        link.to_client()


@pytest.mark.parametrize("many", [1, 2, 50])
def test_rubbish_from_a_forged_address_does_not_end_a_handshake(world, many) -> None:
    """Before the keys are known, after, and between the node's own records."""
    rubbish = bytes((HANDSHAKE, 0xFE, 0xFD, 0, 1)) + bytes(6) + b"\0\x28" + bytes(40)
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    (flight,) = link.client.outgoing
    key_exchange, change, finished = split_untrusted(flight)
    for datagram in (key_exchange, change):
        for _ in range(many):
            link.deliver(rubbish)
        link.deliver(datagram)
    for _ in range(many):
        link.deliver(rubbish)
    world.server.sweep(0.99)
    link.deliver(finished)
    assert len(world.server.associations()) == 1
    world.server.sweep(5.0)
    link.to_client()
    assert link.client.association is not None
    assert not world.server.refused


def test_a_host_whose_handshakes_fail_has_to_wait(world) -> None:
    for n in range(FAILURES + 20):
        refused(world, n, now=0.0)
    world.server.sweep(1.0)
    assert world.server.counts["handshakes_failed"] == FAILURES + 20
    world.server.outgoing.clear()
    waiting = world.link(1000, now=1.0)
    waiting.to_server()
    waiting.to_client()
    waiting.to_server()
    assert not world.server.outgoing
    assert world.server.half_open() == 0
    elsewhere = world.link(2000, now=1.0)
    elsewhere.path = Path(0, ("198.51.100.9", 5684))
    elsewhere.shake_hands()
    # Its hello comes again, and finds a turn.
    waiting.now = 1.1
    hello = waiting.client
    hello.handle_timer(3.0)
    waiting.shake_hands()
    assert len(world.server.associations()) == 2
    assert world.server.refused["too many failures of one host"][0] == 1


def test_half_open_handshakes_of_a_host_do_not_keep_a_node_of_it_out(world) -> None:
    refused(world, 0, now=0.0)
    world.server.sweep(1.0)
    for n in range(1, FAILURES + 2):
        idle = world.link(n, now=1.0 + n / 100)
        idle.to_server()
        idle.to_client()
        idle.to_server()
    assert world.server.half_open() >= FAILURES - 1
    node = world.link(1000, now=3.0)
    node.shake_hands()
    assert node.association is not None


def test_a_wrong_key_has_failed_also_when_its_host_begins_anew_at_once(world) -> None:
    for _ in range(FAILURES):
        refused(world, 1, now=0.0)
    assert world.server.counts["handshakes_failed"] == FAILURES - 1
    assert world.server.refused["unknown identity or wrong key"][0] == FAILURES - 1


@pytest.mark.parametrize("left", range(1, 12))
def test_record_numbers_that_come_to_an_end_begin_no_handshake(world, left) -> None:
    """The server counts on from the number of the hello, in each repetition too."""
    link = world.link()
    link.to_server()
    link.to_client()
    (hello,) = link.client.outgoing
    link.deliver(hello[:5] + ((1 << 48) - left).to_bytes(6, "big") + hello[11:])
    for second in range(31):
        world.server.sweep(float(second))
    assert world.server.half_open() == 0


def test_a_handshake_keeps_little_of_what_comes_too_early(world) -> None:
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    (pending,) = world.server._pending.values()
    for content_type in (HANDSHAKE, APPLICATION_DATA):
        for n in range(20):
            header = HEADER.pack(content_type, DTLS_1_2, 1 << 48 | n, 60_000)
            link.deliver(header + bytes(60_000))
            link.deliver(HEADER.pack(content_type, DTLS_1_2, 1 << 48 | n, 1000) + bytes(1000))
    kept = pending.handshake.early + pending.handshake._held
    assert kept
    assert sum(map(len, kept)) < 8192


def test_a_node_with_an_association_does_not_wait_for_its_host(world) -> None:
    first = world.link().shake_hands()
    for n in range(100, 200):
        refused(world, n, now=0.0)
    world.server.sweep(1.0)
    second = world.link(now=1.0).shake_hands()
    assert world.server.associations() == [second]
    assert first.closed


def test_a_handshake_keeps_little_of_what_its_own_key_protects() -> None:
    """Of a node whose ChangeCipherSpec does not come."""
    inside, at = Inside(1), path()
    puppet = inside.puppet()
    inside.greet(puppet, at)
    inside.give(puppet.key_exchange(), at)
    for _ in range(200):
        inside.give(puppet.protect(HANDSHAKE, bytes(4000)), at)
    (pending,) = inside.server._pending.values()
    assert 0 < len(pending.handshake._consumed) <= 16


def test_port_0_is_not_answered(world) -> None:
    link = world.link()
    link.path = Path(0, ("192.0.2.1", 0))
    link.to_server()
    assert not world.server.outgoing
    assert world.server.counts["dropped"] == 1


def test_records_that_fail_authentication_are_counted_at_once(world) -> None:
    link = world.link()
    association = link.shake_hands()
    record = association.protect(b"not of the node")
    for n in range(1, 4):
        link.deliver(record)
        assert world.server.unauthentic() == n
    world.server.close(None, "over")
    assert world.server.unauthentic() == 3


def test_lost_flights_are_repeated_until_the_handshake_is_done(world) -> None:
    for seed in range(20):
        link = world.link(seed, identity=f"device-{seed}", now=0.0)
        link.weathered(random.Random(seed))
        assert link.association, f"seed {seed}"
        assert link.client.association, f"seed {seed}"
        link.client.send(b"arrived")
        link.to_server()
        assert link.received[-1] == b"arrived", f"seed {seed}"


def test_data_that_overtakes_the_last_flight_is_delivered(world) -> None:
    link = world.link()
    link.to_server()
    link.to_client()
    link.to_server()
    link.to_client()
    key_exchange, link.client.outgoing = link.client.outgoing, []
    other = world.link(2)
    other.shake_hands()
    # The client may send data only after our Finished, so play it with a second try at the end.
    for datagram in key_exchange:
        link.deliver(datagram)
    last_flight = [one for one, to in world.server.outgoing if to == link.path]
    for datagram in last_flight:
        link.client.receive(datagram, 0.0)
    link.client.send(b"early")
    link.to_server()
    assert link.received == [b"early"]


def test_a_lost_last_flight_comes_again_when_the_node_repeats_its_own(world) -> None:
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    finished = list(link.client.outgoing)
    link.to_server()
    assert link.association is not None
    lost = [one for one, _ in world.server.outgoing]
    world.server.outgoing.clear()
    link.now = 1.0
    for datagram in finished:
        link.deliver(datagram)
    assert [one for one, _ in world.server.outgoing] == lost
    # and no more than twice a second, whatever comes
    world.server.outgoing.clear()
    for _ in range(50):
        for datagram in finished:
            link.deliver(datagram)
    assert not world.server.outgoing


def test_the_old_association_lives_until_a_new_handshake_is_finished(world) -> None:
    old = world.link()
    first = old.shake_hands()
    new = world.link()
    for _ in range(2):
        new.to_server()
        new.to_client()
    old.client.send(b"still here")
    old.to_server()
    assert old.received == [b"still here"]
    second = new.shake_hands()
    assert second is not first
    assert first.closed
    assert world.server.associations() == [second]
    assert [event.change for event in world.server.events] == [
        Change.OPENED,
        Change.CLOSED,
        Change.OPENED,
    ]


def test_forged_datagrams_do_not_hurt_an_association(world) -> None:
    link = world.link()
    association = link.shake_hands()
    world.server.outgoing.clear()
    head = b"\xfe\xfd"
    weather = random.Random(1)
    forged = [
        b"\x15" + head + b"\0\0" + bytes(6) + b"\0\2" + b"\2\0",  # plaintext fatal alert
        b"\x15" + head + b"\0\0" + bytes(6) + b"\0\2" + b"\1\0",  # plaintext close_notify
        b"\x14" + head + b"\0\0" + bytes(6) + b"\0\1\1",
        b"\x17" + head + b"\0\0" + bytes(6) + b"\0\5hello",
        b"\x16" + head + b"\0\0" + bytes(6) + b"\0\x0c" + bytes(12),  # HelloRequest
        b"\x17" + head + b"\0\1" + b"\xff" * 6 + b"\0\x20" + bytes(32),
        b"\x17" + head + b"\0\1" + (500).to_bytes(6, "big") + b"\0\x20" + bytes(32),
        b"\x17" + head + b"\xff\xff" + bytes(6) + b"\0\x20" + bytes(32),
        b"\x17" + head + b"\0\1" + bytes(6) + b"\0\0",
        b"\x17" + head + b"\0\1" + bytes(6) + b"\xff\xff",
        b"",
        b"\x17",
        *(weather.randbytes(weather.randrange(1500)) for _ in range(500)),
    ]
    for datagram in forged:
        link.deliver(datagram)
    assert not world.server.outgoing
    assert not association.closed
    link.client.send(b"fine")
    link.to_server()
    assert link.received == [b"fine"]


def test_renegotiation_is_refused(world) -> None:
    link = world.link()
    association = link.shake_hands()
    world.server.outgoing.clear()
    link.now = 5.0
    keys = link.engine.keys()
    protector = Protector(keys.suite, keys.client_key, keys.client_salt, 50)
    link.deliver(protector.protect(HANDSHAKE, b"\x01" + bytes(40)))
    ((alert, _),) = world.server.outgoing
    assert alert[0] == 21
    assert not association.closed


def test_a_closing_node_is_forgotten(world) -> None:
    link = world.link()
    link.shake_hands()
    assert link.client.association is not None
    link.deliver(link.client.association.close())
    assert not world.server.associations()
    assert world.server.events[-1].why == "closed by the device"


def test_revoking_a_device_ends_its_associations_only(world) -> None:
    mine, other = world.link(1), world.link(2, identity="device-2")
    mine.shake_hands()
    kept = other.shake_hands()
    world.server.close("device-1", "revoked")
    assert world.server.associations() == [kept]
    with pytest.raises(DtlsError, match="closed"):
        mine.to_client()


def test_the_table_is_capped_and_the_longest_silent_goes(make_world) -> None:
    world = make_world(Config(associations=3))
    links = [world.link(n, identity=f"device-{n}") for n in range(4)]
    for n, link in enumerate(links):
        link.now = float(n)
        link.shake_hands()
    assert {one.endpoint.device for one in world.server.associations()} == {
        "device-1",
        "device-2",
        "device-3",
    }


def test_a_smaller_table_holds_from_the_next_association_on(make_world) -> None:
    world = make_world(Config(associations=10))
    for n in range(5):
        world.link(n, identity=f"device-{n}", now=float(n)).shake_hands()
    world.server.renew(Config(associations=3), world.engines)
    assert len(world.server.associations()) == 5
    world.link(5, identity="device-5", now=5.0).shake_hands()
    left = {one.endpoint.device for one in world.server.associations()}
    assert left == {"device-3", "device-4", "device-5"}
    assert len(world.server.events) == 9  # 6 came, 3 went


def test_other_credentials_count_for_the_next_handshake_and_end_no_association(world) -> None:
    old = world.link(1)
    association = old.shake_hands()
    other = type(world)(suites=["PSK-CHACHA20-POLY1305"])
    world.server.renew(world.config, other.engines)
    suite = "PSK-CHACHA20-POLY1305"
    assert world.link(2, suite=suite).shake_hands().suite == suite
    with pytest.raises(HandshakeOver):
        world.link(3, suite="PSK-AES128-CCM8").shake_hands()
    old.client.send(b"still here")
    old.to_server()
    assert old.received == [b"still here"]
    assert not association.closed


def test_one_device_cannot_fill_the_table(make_world) -> None:
    world = make_world(Config(associations=100, associations_per_device=2))
    others = [world.link(n, identity=f"device-{n}") for n in range(10, 13)]
    for link in others:
        link.shake_hands()
    for n in range(6):
        world.link(n).shake_hands()
    assert len(world.server.of_device("device-1")) == 2
    assert len(world.server.associations()) == 5


def test_half_open_handshakes_are_capped_and_expire(world) -> None:
    for n in range(HALF_OPEN + 20):
        link = world.link(n)
        link.to_server()
        link.to_client()
        link.to_server()
    assert world.server.half_open() == HALF_OPEN
    honest = world.link(5000)
    honest.shake_hands()
    world.server.sweep(DEADLINE_S + 1.0)
    assert world.server.half_open() == 0
    assert len(world.server.associations()) == 1


def test_silent_associations_are_forgotten(make_world) -> None:
    world = make_world(Config(idle_timeout_s=100.0))
    link = world.link()
    link.shake_hands()
    world.server.sweep(99.0)
    assert world.server.associations()
    world.server.sweep(101.0)
    assert not world.server.associations()
    assert world.server.events[-1].why == "idle"


def test_another_version_is_told_so(world) -> None:
    link = world.link()
    first = link.client.outgoing[0]
    link.deliver(first[:25] + b"\xfe\xff" + first[27:])
    ((alert, _),) = world.server.outgoing
    assert alert[0] == 21
    assert alert[13:] == bytes((2, 70))
    assert len(alert) < len(first)


def test_several_records_in_one_datagram_are_several_messages(world) -> None:
    link = world.link()
    link.shake_hands()
    link.client.send(b"one")
    link.client.send(b"two")
    link.deliver(b"".join(link.client.outgoing))
    assert link.received == [b"one", b"two"]


def test_records_before_and_after_junk_are_understood(world) -> None:
    link = world.link()
    link.shake_hands()
    link.client.send(b"one")
    link.client.send(b"two")
    good, other = link.client.outgoing
    link.deliver(good + b"\x17\xfe\xfd\0\1junk")
    link.deliver(b"junk" + other)
    link.deliver(other)
    assert link.received == [b"one", b"two"]


@pytest.mark.interpreted("a constant is part of compiled code and cannot be made larger")
def test_a_message_of_an_impossible_length_ends_its_handshake_only(world, monkeypatch) -> None:
    """OpenSSL, if it came so far, reports this one as an end of file, unlike its other errors."""
    monkeypatch.setattr(handshake, "_LONGEST_MESSAGE", 1 << 24)
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    (flight,) = link.client.outgoing
    assert flight[13:17] == bytes((16, 0, 0, 10))
    world.server.receive(flight[:14] + b"\xa4" + flight[15:], link.path, 0.0)
    assert world.server.half_open() == 0
    assert world.server.counts["handshakes_failed"] == 1


def test_revoking_a_device_ends_its_handshakes_under_way(world) -> None:
    """The key was looked up before it was revoked; the Finished comes after."""
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    (flight,) = link.client.outgoing
    key_exchange, *rest = split_untrusted(flight)
    link.deliver(key_exchange)
    other = world.link(2, identity="device-2")
    for _ in range(2):
        other.to_server()
        other.to_client()
    other.deliver(next(split_untrusted(other.client.outgoing[0])))
    world.server.close("device-1", "revoked")
    assert world.server.half_open() == 1
    link.deliver(b"".join(rest))
    assert not world.server.associations()
    other.to_server()
    assert [one.endpoint.device for one in world.server.associations()] == ["device-2"]


def test_a_repeated_finished_behind_a_change_cipher_spec_is_answered(world) -> None:
    """A node that sends ClientKeyExchange in a datagram of its own repeats both apart, too."""
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    (flight,) = link.client.outgoing
    key_exchange, change, finished = split_untrusted(flight)
    link.deliver(key_exchange)
    link.deliver(change + finished)
    (lost,) = world.server.outgoing
    world.server.outgoing.clear()
    link.now = 2.0
    link.deliver(change + finished)
    assert world.server.outgoing == [lost]
    assert link.to_client() == []
    assert link.client.association is not None


def test_an_empty_datagram_is_dropped(world) -> None:
    link = world.link()
    link.shake_hands()
    link.deliver(b"")
    assert world.server.counts["dropped"] == 1
    assert len(world.server.associations()) == 1


def test_a_host_with_many_ports_does_not_push_out_the_handshakes_of_others(world) -> None:
    honest = world.link()
    honest.path = Path(0, ("198.51.100.9", 5684))
    for _ in range(2):
        honest.to_server()
        honest.to_client()
    for n in range(HALF_OPEN + 20):
        greedy = world.link(100 + n)
        greedy.to_server()
        greedy.to_client()
        greedy.to_server()
    assert world.server.half_open() == HALF_OPEN
    honest.to_server()
    assert [one.path for one in world.server.associations()] == [honest.path]


def test_a_network_with_many_hosts_does_not_push_out_the_handshakes_of_others(world) -> None:
    """The attacker's every handshake is from a host of its own; the node's is the oldest."""
    honest = world.link()
    honest.path = Path(0, ("2001:db8:1::9", 5684, 0, 0))
    for _ in range(2):
        honest.to_server()
        honest.to_client()
    for n in range(HALF_OPEN + 20):
        greedy = world.link(100 + n)
        greedy.path = Path(0, (f"2001:db8:2:{n:x}::1", 5684, 0, 0))
        greedy.to_server()
        greedy.to_client()
        greedy.to_server()
    assert world.server.half_open() == HALF_OPEN
    honest.to_server()
    assert [one.path for one in world.server.associations()] == [honest.path]


def test_a_handshake_reads_a_few_records_of_a_datagram_only(world, monkeypatch) -> None:
    """Whoever has a cookie could otherwise stop the loop with 64 KiB of empty records."""
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    fed: list[bytes] = []
    feed = OpensslEngine.feed
    monkeypatch.setattr(
        OpensslEngine, "feed", lambda self, record: (fed.append(record), feed(self, record))
    )
    empty = bytes((HANDSHAKE, 0xFE, 0xFD)) + bytes(10)
    world.server.receive(empty * 5000, link.path, 0.0)
    assert len(b"".join(fed)) <= 16 * len(empty)
    link.to_server()
    assert len(world.server.associations()) == 1


@pytest.mark.parametrize("behind", [b"", bytes((11, 0, 0, 0, 0, 9)) + bytes(6)])
def test_long_messages_of_the_future_are_not_kept(world, monkeypatch, behind) -> None:
    """OpenSSL would, a megabyte for each peer; also behind a short one in the same record."""
    link = world.link()
    for _ in range(2):
        link.to_server()
        link.to_client()
    fed: list[bytes] = []
    feed = OpensslEngine.feed
    monkeypatch.setattr(
        OpensslEngine, "feed", lambda self, record: (fed.append(record), feed(self, record))
    )
    for seq in range(4, 12):
        size = (4097).to_bytes(3, "big")
        part = bytes((11, *size, 0, seq)) + bytes(3) + (1000).to_bytes(3, "big") + bytes(1000)
        body = behind + part
        record = bytes((HANDSHAKE, 0xFE, 0xFD)) + bytes(7) + bytes((seq,))
        world.server.receive(record + len(body).to_bytes(2, "big") + body, link.path, 0.0)
    assert fed == []
    link.to_server()
    assert len(world.server.associations()) == 1


def test_every_association_that_ends_is_told_though_all_end_at_once(
    make_world, monkeypatch
) -> None:
    monkeypatch.setattr(server, "EVENTS", 4)
    world = make_world(Config(associations=20))
    for n in range(20):
        world.link(n, identity=f"device-{n}").shake_hands()
    world.server.events.clear()
    world.server.sweep(Config().idle_timeout_s + 1.0)
    assert [event.change for event in world.server.events] == [Change.CLOSED] * 20
