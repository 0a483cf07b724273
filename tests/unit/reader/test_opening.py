"""What a reader believes, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from certs.authority import Authority
from certs.profiles import DOCTOR, GATEWAY
from gateway.cose.encrypt0 import open_untrusted
from gateway.cose.envelope import open_envelope_untrusted
from gateway.cose.record import Header, external_aad
from gateway.errors import SealError
from gateway.lane import Lane
from gateway.reader import opening as opening_module
from gateway.reader.opening import NotEntitledError, Opening, TamperedError
from gateway.reader.pages import Item

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Reader, Ward


@pytest.fixture
def doctor(ward: Ward) -> Reader:
    return ward.reader("anna", "doctor")


@pytest.fixture
def opening(ward: Ward, doctor: Reader) -> Opening:
    return Opening(ward.authority.certificate, doctor.seal_key)


def item(header: Header, record: bytes, gateway: str = "gateway-1") -> Item:
    return Item(1, gateway, header, record)


def refused(opening: Opening, found: Item, message: bytes) -> str:
    """The reason why a record is not shown although an envelope was there."""
    opening.learn(found.header.epoch, message)
    with pytest.raises(TamperedError) as caught:
        opening.open(found)
    return str(caught.value)


def test_a_record_says_what_the_gateway_put_in(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """Device, patient, times, measurements, assessment."""
    epoch = ward.epoch([doctor, ward.reader("other", "doctor")])
    header, record = ward.record(epoch, value=81.5, received_ms=1_700_000_000_123)
    assert opening.needs(header.epoch)
    opening.learn(header.epoch, epoch[1].message)
    assert not opening.needs(header.epoch)
    opened = opening.open(item(header, record))
    assert opened.id == header.id
    assert opened[1:7] == (
        "gateway-1",
        "bracelet-1",
        "bed-3",
        Lane.ROUTINE,
        1_700_000_000_123,
        "synchronised",
    )
    assert opened.records is not None
    assert [(each.name, each.value) for each in opened.records] == [
        ("bracelet-1/hr", 81.5),
        ("bracelet-1/rhythm", None),
    ]
    assert opened.sealed is None
    assert opened.assessment == {"priority": "routine", "findings": [], "news2": None}


def test_what_a_node_sealed_by_itself_is_carried(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """The node's own COSE, for whoever has its key."""
    epoch = ward.epoch([doctor])
    header, record = ward.record(epoch, sealed=(16, b"node's own"))
    opening.learn(header.epoch, epoch[1].message)
    opened = opening.open(item(header, record))
    assert (opened.records, opened.sealed) == (None, (16, b"node's own"))


def test_a_record_for_others_is_not_tampered_with(ward: Ward, opening: Opening) -> None:
    """No envelope, or one for other readers: no fault of anybody."""
    epoch = ward.epoch([ward.reader("other", "doctor")])
    header, record = ward.record(epoch)
    for message in (None, epoch[1].message):
        opening.learn(header.epoch, message)
        with pytest.raises(NotEntitledError):
            opening.open(item(header, record))


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_changed_byte_of_the_record_is_seen(
    ward: Ward, doctor: Reader, opening: Opening, place: int
) -> None:
    """Wherever it is."""
    epoch = ward.epoch([doctor])
    header, record = ward.record(epoch)
    at = place * len(record) // 100
    changed = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
    assert refused(opening, item(header, changed), epoch[1].message)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_changed_byte_of_the_envelope_is_seen(
    ward: Ward, doctor: Reader, opening: Opening, place: int
) -> None:
    """Or makes it one for others: never is a record shown."""
    epoch = ward.epoch([doctor])
    header, record = ward.record(epoch)
    message = epoch[1].message
    at = place * len(message) // 100
    changed = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
    assert "envelope" in refused(opening, item(header, record), changed)


@pytest.mark.parametrize("field", ["id", "received_ms", "patient", "lane", "gateway"])
def test_a_record_under_another_header_is_seen(
    ward: Ward, doctor: Reader, opening: Opening, field: str
) -> None:
    """The cloud store cannot give it another id, time, patient, lane or gateway."""
    epoch = ward.epoch([doctor])
    header, record = ward.record(epoch)
    gateway = "gateway-1"
    if field == "id":
        header = header._replace(id=b"x" * 16)
    elif field == "received_ms":
        header = header._replace(received_ms=header.received_ms + 1)
    elif field == "patient":
        header = header._replace(patient=b"x" * 16)
    elif field == "lane":
        header = header._replace(lane=Lane.EMERGENCY)
    else:
        gateway = "gateway-2"
    assert refused(opening, item(header, record, gateway), epoch[1].message)


def test_a_record_of_another_epoch_does_not_pass(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """Nor does the envelope of another epoch under this one's name."""
    first, second = ward.epoch([doctor]), ward.epoch([doctor])
    header, record = ward.record(first)
    moved = item(header._replace(epoch=second[1].epoch), record)
    assert refused(opening, moved, second[1].message)
    assert "another epoch" in refused(opening, item(header, record), second[1].message)


def test_the_time_inside_must_be_the_time_outside(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """A gateway that binds one time and seals another is not believed."""
    sealer, envelope = ward.epoch([doctor])
    header, record = ward.record((sealer, envelope))
    content_key = open_envelope_untrusted(envelope, doctor.seal_key)
    inside = open_untrusted(record, content_key, external_aad("gateway-1", *header[:4]))
    later = header._replace(received_ms=header.received_ms + 1)
    forged = sealer.seal(inside, external_aad("gateway-1", *later[:4]))
    assert "another time" in refused(opening, item(later, forged), envelope.message)


def test_only_a_gateway_of_this_ward_is_believed(
    ward: Ward, doctor: Reader, opening: Opening, tmp_path: Path
) -> None:
    """Not a doctor, not a gateway of another authority."""
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Authority.create(tmp_path / "elsewhere", "Ward 7", wall=ward.wall)
    for signer, reason in (
        (ward.party(GATEWAY, "gateway-1", authority=elsewhere), "not issued by"),
        (ward.party(DOCTOR, "gateway-1"), "not signed by a gateway"),
    ):
        epoch = ward.epoch([doctor], gateway=signer)
        assert reason in refused(opening, item(*ward.record(epoch)), epoch[1].message)


def test_the_signer_must_have_been_valid_when_it_signed(
    ward: Ward, doctor: Reader, opening: Opening
) -> None:
    """A record of last year stays readable; one signed after the certificate ran out is not."""
    year = 365 * 86_400
    old_wall = ward.wall - 3 * year
    key = ward.gateway.key
    certificate = ward.authority.issue(
        GATEWAY, "gateway-1", key.public_key(), wall=old_wall, days=365, hosts=("127.0.0.1",)
    )
    for created, readable in ((old_wall + 10, True), (ward.wall, False), (old_wall - year, False)):
        signer = ward.gateway._replace(certificate=certificate)
        ward.wall, now = created, ward.wall
        epoch = ward.epoch([doctor], gateway=signer)
        header, record = ward.record(epoch)
        ward.wall = now
        opening.learn(header.epoch, epoch[1].message)
        if readable:
            assert opening.open(item(header, record)).id == header.id
        else:
            with pytest.raises(TamperedError, match=r"valid|expired"):
                opening.open(item(header, record))


def test_garbage_is_refused_in_words(ward: Ward, doctor: Reader, opening: Opening) -> None:
    """Nothing that a cloud store sends raises anything but our own errors."""
    epoch = ward.epoch([doctor])
    header, record = ward.record(epoch)
    for message in (b"", b"\x00", b"\xd2\x84", record):
        assert refused(opening, item(header, record), message)
    for garbage in (b"", b"\x00", epoch[1].message):
        assert refused(opening, item(header, garbage), epoch[1].message)


def test_the_table_of_epochs_is_capped(
    ward: Ward, doctor: Reader, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten and asked for again."""
    monkeypatch.setattr(opening_module, "EPOCHS", 2)
    epochs = [bytes([number]) * 16 for number in range(3)]
    for epoch in epochs:
        opening.learn(epoch, None)
    assert [opening.needs(epoch) for epoch in epochs] == [True, False, False]


def test_both_refusals_are_seal_errors() -> None:
    """A caller that does not care which can catch one."""
    assert issubclass(NotEntitledError, SealError)
    assert issubclass(TamperedError, SealError)
