"""One association: which records it opens, which it counts, which it answers."""

from __future__ import annotations

import pytest

from gateway.dtls.association import Association, Path
from gateway.dtls.records import ALERT, APPLICATION_DATA, HANDSHAKE, SUITES, Opener, Protector

SUITE = "PSK-AES128-CCM8"
KEY, SALT = b"k" * 16, b"salt"
FINISHED = bytes((20, 0, 0, 12)) + bytes(20)
LAST_FLIGHT = [b"change cipher spec", b"finished"]


@pytest.fixture
def association() -> Association:
    return Association(
        number=7,
        device="device-1",
        suite=SUITE,
        path=Path(0, ("192.0.2.1", 61_616)),
        opener=Opener(SUITE, KEY, SALT),
        protector=Protector(SUITE, b"o" * 16, b"ours", 1),
        last_flight=LAST_FLIGHT,
        now=0.0,
    )


@pytest.fixture
def peer() -> Protector:
    return Protector(SUITE, KEY, SALT, 1)


def of_epoch(epoch: int, plaintext: bytes, content_type: int = APPLICATION_DATA) -> bytes:
    """A record that this key did protect, as if it held for that epoch too."""
    number = epoch.to_bytes(2, "big") + (99).to_bytes(6, "big")
    start = bytes((content_type, 0xFE, 0xFD))
    aad = number + start + len(plaintext).to_bytes(2, "big")
    body = number + SUITES[SUITE].make(KEY).encrypt(SALT + number, plaintext, aad)
    return start + number + len(body).to_bytes(2, "big") + body


def test_the_helper_makes_what_opens_in_epoch_1(association: Association) -> None:
    assert association.receive_untrusted(of_epoch(1, b"72"), 1.0) == [b"72"]


@pytest.mark.parametrize("epoch", [0, 2, 256, 65_535])
@pytest.mark.parametrize("beside", [0, 1])
def test_another_epoch_is_passed_over(association, peer, epoch, beside) -> None:
    """Neither opened, nor held against the peer; what stands beside it in the datagram is read."""
    others = [peer.protect(APPLICATION_DATA, b"72") for _ in range(beside)]
    datagram = of_epoch(epoch, b"no") + b"".join(others)
    assert association.receive_untrusted(datagram, 5.0) == [b"72"] * beside
    assert association.failed_records == 0
    assert association.heard == (5.0 if beside else 0.0)


@pytest.mark.parametrize("beside", [0, 1])
def test_what_is_not_authentic_is_counted(association, peer, beside) -> None:
    record = peer.protect(APPLICATION_DATA, b"72")
    others = [peer.protect(APPLICATION_DATA, b"73") for _ in range(beside)]
    forged = record[:-1] + bytes((record[-1] ^ 1,))
    assert association.receive_untrusted(forged + b"".join(others), 5.0) == [b"73"] * beside
    assert association.failed_records == 1
    assert association.receive_untrusted(record, 6.0) == [b"72"]
    assert association.receive_untrusted(record, 7.0) == []
    assert association.failed_records == 2
    assert association.heard == 6.0


@pytest.mark.parametrize("length", range(14))
def test_a_datagram_without_a_whole_header_is_nothing(association, length) -> None:
    assert association.receive_untrusted(of_epoch(1, b"72")[:length], 5.0) == []
    assert association.failed_records == 0


@pytest.mark.parametrize(
    ("alert", "closes"),
    [(b"\2\0", True), (b"\2\x28", True), (b"\1\0", True), (b"\1\x64", False), (b"\2", False)],
)
def test_an_authentic_alert_may_close(association, peer, alert, closes) -> None:
    assert association.receive_untrusted(peer.protect(ALERT, alert), 1.0) == []
    assert association.closed is closes


def test_an_alert_of_another_epoch_closes_nothing(association) -> None:
    for epoch in (0, 2):
        association.receive_untrusted(of_epoch(epoch, b"\2\0", ALERT), 1.0)
    assert not association.closed


def test_only_handshake_messages_of_this_epoch_are_answered(association, peer) -> None:
    for datagram in (
        peer.protect(APPLICATION_DATA, FINISHED),
        of_epoch(0, FINISHED, HANDSHAKE),
        of_epoch(2, FINISHED, HANDSHAKE),
        of_epoch(1, b"", HANDSHAKE),
    ):
        assert association.replies(datagram, 1.0) == []
    assert association.failed_records == 0
    datagram = of_epoch(0, FINISHED, HANDSHAKE) + peer.protect(HANDSHAKE, FINISHED)
    assert association.replies(datagram, 1.0) == LAST_FLIGHT
