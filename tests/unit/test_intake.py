"""From a payload to a sealed entry: the only clinical path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.alarm_book import HOLD_S, AlarmBook
from gateway.coap.fastlane import Kind
from gateway.cose import encrypt0
from gateway.endpoint import Endpoint
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    IntegrityError,
    OutboxFull,
    SealError,
    UnsupportedContentFormatError,
)
from gateway.intake import Admitted, Intake, Judged, Offer, Repeated
from gateway.lane import Lane
from gateway.recent_keys import RECENT, RecentKeys
from gateway.roster.devices import new_device
from gateway.vitals.assessment import Priority

if TYPE_CHECKING:
    from tests.unit.conftest import Desk

BED = Endpoint(7, "bracelet-1")
OTHER = Endpoint(8, "bracelet-2")


class Room:
    """Says no when the test wants it."""

    def __init__(self) -> None:
        self.full: set[Lane] = set()
        self.asked: list[tuple[Lane, int]] = []

    def check(self, lane: Lane, size: int) -> None:
        self.asked.append((lane, size))
        if lane in self.full:
            raise OutboxFull("no room")


class Book(AlarmBook):
    """Keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(bytes(32), os.urandom, lambda kept, gone: None)
        self.told: list[Judged] = []

    def judged(self, judged: Judged, wall: float) -> None:
        self.told.append(judged)
        AlarmBook.judged(self, judged, wall)


class Bench:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.room = Room()
        self.book = Book()
        self.judged = self.book.told
        self.intake: Intake = desk.intake(check_room=self.room.check, book=self.book)
        self.now = 1000.0

    def burst(self, *offers: Offer) -> list[Any]:
        found = self.intake.admit(list(offers), now=self.now, wall=self.desk.wall)
        for one in found:
            if isinstance(one, Admitted):
                self.desk.keep(one.envelope)
        return list(found)

    def admit(self, payload: bytes, **how: Any) -> Any:
        (found,) = self.burst(offer(payload, **how))
        return found


def offer(
    payload: bytes,
    *,
    endpoint: Endpoint = BED,
    kind: Kind = Kind.VITALS,
    content_format: int = 112,
) -> Offer:
    return Offer(endpoint, kind, content_format, payload)


@pytest.fixture
def bench(desk: Desk) -> Bench:
    return Bench(desk)


def hr(value: float) -> bytes:
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}])


def counted(seq: int, value: float = 72) -> bytes:
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}, {0: "boot", 2: 1}, {0: "seq", 2: seq}])


def timed(wall: float, value: float = 72) -> bytes:
    return cbor2.dumps([{-3: wall, 0: "hr", 1: "1/min", 2: value}])


def test_a_pack_becomes_an_entry_that_its_reader_opens(bench: Bench) -> None:
    found = bench.admit(timed(bench.desk.wall - 5))
    assert isinstance(found, Admitted)
    entry = found.entry
    assert (entry.lane, entry.received_ms) == (Lane.ROUTINE, int(bench.desk.wall * 1000))
    assert entry.patient == bench.desk.ward.assignment("bracelet-1").pseudonym  # type: ignore[union-attr]
    assert bench.judged[0].patient == "P1"
    opened = bench.desk.open(entry, "doctor").plaintext
    assert (opened.device, opened.patient, opened.clock) == ("bracelet-1", "P1", "synchronised")
    (record,) = cbor2.loads(opened.senml or b"")
    assert record[2] == 72
    assert opened.sealed is None
    assert opened.assessment is not None
    assert opened.assessment["priority"] == "routine"


def test_nobody_else_opens_it_and_nothing_can_be_changed(bench: Bench) -> None:
    entry = bench.admit(hr(72)).entry
    with pytest.raises(IntegrityError):
        bench.desk.open(entry, "alarm-centre")
    for change in (
        {"received_ms": entry.received_ms + 1},
        {"patient": b"x" * 16},
        {"lane": Lane.EMERGENCY},
        {"id": b"x" * 16},
        {"sealed": entry.sealed[:-1] + bytes([entry.sealed[-1] ^ 1])},
    ):
        with pytest.raises(IntegrityError):
            bench.desk.open(entry._replace(**change), "doctor")


def test_an_emergency_takes_its_lane_and_is_for_others(bench: Bench) -> None:
    """By what it shows, or because the node says so."""
    found = bench.admit(cbor2.dumps([{0: "rhythm", 3: "VT"}]))
    assert found.entry.lane is Lane.EMERGENCY
    assert bench.judged[0].assessment.priority is Priority.EMERGENCY
    opened = bench.desk.open(found.entry, "alarm-centre").plaintext
    assert opened.assessment is not None
    assert opened.assessment["findings"][0]["rule"] == "verdict"  # type: ignore[index]
    with pytest.raises(IntegrityError):
        bench.desk.open(found.entry, "doctor")
    declared = bench.admit(hr(72), endpoint=OTHER, kind=Kind.ALARM)
    assert declared.entry.lane is Lane.EMERGENCY
    assert bench.desk.open(declared.entry, "alarm-centre").plaintext.patient == "P2"


@pytest.mark.parametrize("tag", [b"", b"\xd0"])
def test_what_the_node_sealed_is_carried_as_it_is(bench: Bench, tag: bytes) -> None:
    message = tag + b"\x83\x43\xa1\x01\x01\xa0\x41x"
    for kind, lane, reader in (
        (Kind.SEALED, Lane.ROUTINE, "doctor"),
        (Kind.SEALED_ALARM, Lane.EMERGENCY, "alarm-centre"),
    ):
        found = bench.admit(message, kind=kind, content_format=16)
        assert (found.entry.lane, found.entry.key, bench.judged) == (lane, None, [])
        opened = bench.desk.open(found.entry, reader).plaintext
        assert (opened.sealed, opened.senml, opened.assessment) == ((16, message), None, None)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"payload": b"\xff"}, BadRequestError),
        ({"payload": hr(9999)}, BadRequestError),
        ({"payload": hr(72), "content_format": 60}, UnsupportedContentFormatError),
        (
            {"payload": b"\x83", "kind": Kind.SEALED, "content_format": 112},
            UnsupportedContentFormatError,
        ),
        ({"payload": b"text", "kind": Kind.SEALED, "content_format": 16}, BadRequestError),
        ({"payload": b"", "kind": Kind.SEALED, "content_format": 16}, BadRequestError),
        ({"payload": hr(72), "endpoint": Endpoint(1, "stranger")}, ForbiddenError),
        ({"payload": cbor2.dumps([{-2: "bracelet-2", 2: 1}])}, ForbiddenError),
    ],
)
def test_what_cannot_be_taken_is_an_error_of_the_peer(
    bench: Bench, how: dict[str, Any], error: type[Exception]
) -> None:
    assert isinstance(bench.admit(**how), error)


@pytest.mark.parametrize("make", [counted, timed])
def test_a_message_that_comes_again_is_known(bench: Bench, make: Any) -> None:
    """By the device's counters, or because every record has its absolute time. It may be
    acknowledged when it is on disk, not before."""
    pack = make(bench.desk.wall - 5) if make is timed else make(5)
    first = bench.admit(pack)
    assert isinstance(first, Admitted)
    assert bench.admit(pack) == Repeated(stored=False)
    bench.intake.stored(first.entry.key)
    assert bench.admit(pack) == Repeated(stored=True)
    later = bench.desk.intake(recent=[first.entry.key])  # after a restart
    assert later.admit([offer(pack)], now=0.0, wall=bench.desk.wall) == [Repeated(stored=True)]


def test_an_equal_measurement_is_another_measurement(bench: Bench) -> None:
    """Without time or counters two equal packs are two."""
    found = [bench.admit(hr(72)) for _ in range(3)]
    assert all(isinstance(one, Admitted) and one.entry.key is None for one in found)


def test_who_said_it_and_where_belongs_to_a_message(bench: Bench) -> None:
    """The same bytes of another device, or declared an emergency, are another message."""
    keys = [
        bench.admit(counted(5), endpoint=endpoint, kind=kind).entry.key
        for endpoint in (BED, OTHER)
        for kind in (Kind.VITALS, Kind.ALARM)
    ]
    assert len(set(keys)) == 4


def test_two_equal_messages_in_one_burst_are_one(bench: Bench) -> None:
    first, second, other = bench.burst(offer(counted(1)), offer(counted(1)), offer(counted(2)))
    assert isinstance(first, Admitted)
    assert second == Repeated(stored=False)
    assert isinstance(other, Admitted)


def test_outcomes_stand_in_the_order_of_the_offers(bench: Bench) -> None:
    found = bench.burst(
        offer(hr(71)),
        offer(b"\xff"),
        offer(hr(72), endpoint=OTHER),
        offer(hr(73), endpoint=Endpoint(9, "stranger")),
        offer(hr(74), kind=Kind.ALARM),
    )
    assert [type(one) for one in found] == [
        Admitted,
        BadRequestError,
        Admitted,
        ForbiddenError,
        Admitted,
    ]
    values = [
        cbor2.loads(bench.desk.open(found[at].entry, reader).plaintext.senml or b"")[0][2]
        for at, reader in ((0, "doctor"), (2, "doctor"), (4, "alarm-centre"))
    ]
    assert values == [71, 72, 74]


def test_without_room_nothing_has_happened(bench: Bench) -> None:
    """No epoch is opened, the message is not known: it may come again, and is new then."""
    bench.room.full = {Lane.ROUTINE}
    assert isinstance(bench.admit(counted(1)), OutboxFull)
    assert isinstance(bench.admit(hr(72), kind=Kind.ALARM), Admitted)
    bench.room.full = set()
    found = bench.admit(counted(1))
    assert isinstance(found, Admitted)
    assert found.envelope is not None


def test_the_room_asked_for_is_enough(bench: Bench) -> None:
    for size in (1, 100):
        pack = cbor2.dumps([{0: f"x{number}", 3: "y" * 40} for number in range(size)])
        found = bench.admit(pack)
        lane, asked = bench.room.asked[-1]
        assert lane is found.entry.lane
        assert len(found.entry.sealed) <= asked <= len(found.entry.sealed) + 256


def test_what_nobody_may_read_is_not_stored(bench: Bench) -> None:
    """And is not taken for a repetition when it comes again."""
    for name in ("doctor", "alarm-centre"):
        bench.desk.narrow(name, "P1")
    for _ in range(2):
        assert isinstance(bench.admit(counted(1), endpoint=OTHER), SealError)
    assert isinstance(bench.admit(counted(1)), Admitted)


def test_one_epoch_serves_many_records(bench: Bench) -> None:
    """One for each patient and lane; its envelope comes with the first record only."""
    found = [bench.admit(hr(60 + number)) for number in range(5)]
    assert [one.envelope is not None for one in found] == [True] + [False] * 4
    assert len({one.entry.epoch for one in found}) == 1
    for endpoint, kind in ((OTHER, Kind.VITALS), (BED, Kind.ALARM)):
        other = bench.admit(hr(60), endpoint=endpoint, kind=kind)
        assert other.envelope is not None
        assert other.entry.epoch != found[0].entry.epoch
    assert encrypt0.epoch_of_untrusted(found[0].entry.sealed) == found[0].entry.epoch


def test_a_change_of_readers_opens_another_epoch(bench: Bench) -> None:
    first = bench.admit(hr(72))
    bench.desk.recipient("anna", "doctor", "P1")
    second = bench.admit(hr(72))
    assert second.envelope is not None
    assert bench.desk.open(second.entry, "anna").plaintext.device == "bracelet-1"
    with pytest.raises(IntegrityError):
        bench.desk.open(first.entry, "anna")


def test_record_ids_are_ordered_unique_and_version_7(bench: Bench) -> None:
    """RFC 9562 section 5.7, and not those of another run."""
    ids = [bench.admit(hr(72)).entry.id for _ in range(300)]
    bench.desk.wall += 0.001
    ids.append(bench.admit(hr(72)).entry.id)
    assert ids == sorted(set(ids))
    for one in ids:
        assert len(one) == 16
        assert (one[6] >> 4, one[8] >> 6) == (7, 2)
    assert int.from_bytes(ids[-1][:6], "big") == int(bench.desk.wall * 1000)
    other = Bench(bench.desk)
    assert other.admit(hr(72)).entry.id[10:] != ids[0][10:]


def test_record_ids_stay_in_order_when_the_clock_is_set_back(bench: Bench) -> None:
    """RFC 9562 section 6.2; the time beside them is the clock's all the same."""
    ids = [bench.admit(hr(72)).entry.id for _ in range(3)]
    bench.desk.wall -= 3600
    behind = [bench.admit(hr(72)).entry for _ in range(3)]
    ids += [entry.id for entry in behind]
    bench.desk.wall += 7200
    ids.append(bench.admit(hr(72)).entry.id)
    assert ids == sorted(set(ids))
    assert behind[0].received_ms == int((bench.desk.wall - 7200) * 1000)


def test_the_quality_of_the_clock_stands_in_the_record(bench: Bench) -> None:
    bench.intake.clock_quality = "unsynchronised"
    assert bench.desk.open(bench.admit(hr(72)).entry, "doctor").plaintext.clock == "unsynchronised"


def test_percent_above_one_is_for_devices_that_are_known_for_it(bench: Bench) -> None:
    """In SenML ``%`` is a ratio."""
    pack = cbor2.dumps([{0: "spo2", 1: "%", 2: 97}])
    assert isinstance(bench.admit(pack), BadRequestError)
    bench.desk.device("old", "P9", lenient=True)
    assert isinstance(bench.admit(pack, endpoint=Endpoint(4, "old")), Admitted)


def test_at_least_the_last_messages_are_remembered() -> None:
    """And not for ever: the memory is bounded."""
    recent = RecentKeys([b"before"])
    assert recent.begin(b"before") is True
    keys = [number.to_bytes(4, "big") for number in range(3 * RECENT)]
    for key in keys:
        assert recent.begin(key) is None
        assert recent.begin(key) is False
        recent.stored(key)
    assert all(recent.begin(key) for key in keys[-RECENT:])
    recent.stored(b"unknown")
    for forgotten in (keys[0], b"before", b"unknown"):
        assert recent.begin(forgotten) is None


def test_an_emergency_is_judged_although_there_is_no_room_for_it(bench: Bench) -> None:
    """The ward's own alarm does not depend on the disk."""
    bench.room.full = set(Lane)
    found = bench.admit(cbor2.dumps([{0: "hr", 1: "1/min", 2: 71}]), kind=Kind.ALARM)
    assert isinstance(found, OutboxFull)
    (judged,) = bench.judged
    assert (judged.device, judged.assessment.lane) == (BED.device, Lane.EMERGENCY)


def test_a_refused_message_is_forgotten_though_its_burst_began_a_generation() -> None:
    recent = RecentKeys([])
    for number in range(RECENT - 1):
        recent.begin(number.to_bytes(4, "big"))
    recent.begin(b"refused")
    recent.begin(b"the first of a new generation")
    recent.forget(b"refused")
    assert recent.begin(b"refused") is None


def test_a_device_that_comes_back_for_another_patient_is_another(bench: Bench) -> None:
    """Its counters may begin again: the same bytes are then somebody else's measurement."""
    first = bench.admit(counted(1))
    bench.intake.stored(first.entry.key)
    assert bench.admit(counted(1)) == Repeated(True)
    devices = bench.desk.devices
    devices.revoke(BED.device, today="2027-01-02T00:00:00Z")
    devices.add(
        new_device(
            BED.device,
            patient="P9",
            key=b"another key",
            lenient_units=False,
            today="2027-01-03T00:00:00Z",
        )
    )
    bench.desk.ward.refresh()
    again = bench.admit(counted(1))
    assert isinstance(again, Admitted)
    assert again.entry.patient != first.entry.patient


def test_every_message_of_a_device_in_the_roster_is_heard(bench: Bench) -> None:
    """Stored, repeated, refused or without room: it is alive, and watched from the first on."""
    silence = bench.book.silence
    bench.room.full.update(Lane)
    bench.burst(Offer(BED, Kind.VITALS, 110, b'[{"n":"hr","u":"1/min","v":72}]'))
    assert len(silence) == 1
    bench.now += 1000
    assert len(silence.sweep(bench.now)) == 1
    bench.burst(Offer(BED, Kind.VITALS, 110, b"nonsense"))
    assert silence.sweep(bench.now + 1) == []
    bench.burst(Offer(Endpoint(9, "stranger"), Kind.VITALS, 110, b"[]"))
    assert len(silence) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b'[{"n":"hr","u":"1/min","v":-1}]',
        b'[{"n":"hr","u":"1/min","v":NaN}]',
        b'[{"n":"spo2","u":"%","v":97}]',
    ],
)
def test_vitals_that_cannot_be_understood_are_a_technical_alarm(
    bench: Bench, payload: bytes
) -> None:
    """And never normal, until the next pack that can be."""
    bench.burst(Offer(BED, Kind.VITALS, 110, payload))
    [alarm] = bench.book.active()
    assert (alarm.rule, alarm.device, alarm.patient) == ("unreadable", BED.device, "P1")
    assert bench.judged == []
    bench.desk.wall += HOLD_S
    bench.burst(Offer(BED, Kind.VITALS, 110, b'[{"n":"hr","u":"1/min","v":72}]'))
    assert bench.book.active() == []


def test_a_message_without_room_was_understood_all_the_same(bench: Bench) -> None:
    bench.room.full.update(Lane)
    bench.burst(Offer(BED, Kind.VITALS, 110, b'[{"n":"hr","u":"1/min","v":72}]'))
    assert bench.book.active() == []


def test_an_emergency_that_the_node_has_sealed_is_an_alarm(bench: Bench) -> None:
    bench.burst(Offer(BED, Kind.SEALED_ALARM, 16, b"\x83\x40\xa0\x40"))
    assert [alarm.rule for alarm in bench.book.active()] == ["declared_sealed"]
    bench.burst(Offer(BED, Kind.SEALED, 16, b"\x83\x40\xa0\x40"))
    assert bench.book.active() == []
