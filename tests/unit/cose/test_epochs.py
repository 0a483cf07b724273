from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from gateway.cose import encrypt0, envelope, epochs
from gateway.errors import SealError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    P256 = ec.EllipticCurvePrivateKey

PATIENT = b"pseudonym-456789"
WALL = 1_790_000_000.0


@pytest.fixture
def table(
    signer: P256, certificate: x509.Certificate, randomness: Callable[[int], bytes]
) -> epochs.Epochs:
    config = epochs.Config(minutes=10, records=3)
    return epochs.Epochs(config, "gateway-1", signer, certificate, randomness)


def test_an_epoch_serves_many_records(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(),)
    sealer, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    assert opened is not None
    assert (opened.epoch, opened.patient, opened.lane) == (sealer.epoch, PATIENT, Lane.ROUTINE)
    assert (opened.gateway, opened.created_ms) == ("gateway-1", 1_790_000_000_000)
    again = table.current(PATIENT, Lane.ROUTINE, list(readers), now=599, wall=WALL)
    assert again == (sealer, None)


def test_the_envelope_holds_the_key_that_seals(table: epochs.Epochs, reader: P256) -> None:
    sealer, opened = table.current(PATIENT, Lane.ROUTINE, (reader.public_key(),), now=0, wall=WALL)
    assert opened is not None
    content_key = envelope.open_envelope_untrusted(opened, reader)
    assert encrypt0.open_untrusted(sealer.seal(b"x", b"y"), content_key, b"y") == b"x"


def test_lanes_and_patients_have_their_own_keys(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(),)
    found = {
        table.current(patient, lane, readers, now=0, wall=WALL)[0].epoch
        for patient in (PATIENT, bytes(16))
        for lane in Lane
    }
    assert len(found) == 4


def test_an_epoch_ends_by_age(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(),)
    first, _ = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    second, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=600, wall=WALL)
    assert opened is not None
    assert first.epoch != second.epoch


def test_an_epoch_ends_by_count(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(),)
    opened = []
    for _ in range(7):
        sealer, new = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
        sealer.seal(b"", b"")
        opened.append(new is not None)
    assert opened == [True, False, False, True, False, False, True]


def test_an_epoch_ends_with_a_change_of_readers(
    table: epochs.Epochs, reader: P256, reader_x25519: x25519.X25519PrivateKey
) -> None:
    """Who was removed cannot read on, who was added can read from now on."""
    one, two = (reader.public_key(),), (reader.public_key(), reader_x25519.public_key())
    for readers in (one, two, one):
        _, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
        assert opened is not None
        assert len(opened.readers) == len(readers)


def test_a_reader_named_twice_is_one_reader(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(), reader.public_key())
    _, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    assert opened is not None
    assert len(opened.readers) == 1
    assert len(envelope.open_envelope_untrusted(opened, reader)) == 32


def test_without_readers_nothing_is_sealed(table: epochs.Epochs, reader: P256) -> None:
    table.current(PATIENT, Lane.ROUTINE, (reader.public_key(),), now=0, wall=WALL)
    with pytest.raises(SealError):
        table.current(PATIENT, Lane.ROUTINE, (), now=0, wall=WALL)


def test_a_forgotten_epoch_is_not_used(table: epochs.Epochs, reader: P256) -> None:
    readers = (reader.public_key(),)
    first, _ = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    table.forget(PATIENT, Lane.ROUTINE)
    table.forget(PATIENT, Lane.EMERGENCY)
    second, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    assert opened is not None
    assert second.epoch != first.epoch


def test_a_clock_that_is_not_set_does_not_spoil_an_envelope(
    table: epochs.Epochs, reader: P256, certificate: x509.Certificate
) -> None:
    """It is dated within its certificate's validity, or nobody would accept it later."""
    readers = (reader.public_key(),)
    _, opened = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=0.0)
    assert opened is not None
    assert opened.created_ms == certificate.not_valid_before_utc.timestamp() * 1000


@pytest.mark.interpreted("a constant is part of compiled code and cannot be made smaller")
def test_the_longest_unused_epoch_makes_room(
    table: epochs.Epochs, reader: P256, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "MAX_OPEN", 2)
    readers = (reader.public_key(),)

    def opens(patient: int) -> bool:
        name = bytes((patient,)) * 16
        return table.current(name, Lane.ROUTINE, readers, now=0, wall=WALL)[1] is not None

    assert [opens(patient) for patient in (1, 2, 1, 3, 1, 2)] == [
        True,
        True,
        False,
        True,  # 2 makes room
        False,
        True,
    ]


def test_keys_do_not_outlive_their_epoch(table: epochs.Epochs, reader: P256) -> None:
    """Opening an epoch forgets those that ended: a patient who left leaves no key behind."""
    readers = (reader.public_key(),)
    sealer, _ = table.current(PATIENT, Lane.ROUTINE, readers, now=0, wall=WALL)
    held = sys.getrefcount(sealer)
    table.current(bytes(16), Lane.ROUTINE, readers, now=600, wall=WALL)
    assert sys.getrefcount(sealer) == held - 1
