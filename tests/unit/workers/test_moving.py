"""Another number of workers: alarms go to their patients' new homes, once, and survive a crash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.alarm_book import AlarmBook, open_kept
from gateway.errors import OutboxError
from gateway.intake import Judged
from gateway.outbox.salvage import open_store
from gateway.outbox.store import Store
from gateway.roster import secret
from gateway.vitals.alarms import Alarms
from gateway.vitals.assessment import Assessment, Finding, Priority
from gateway.workers import moving
from gateway.workers.place import home, outbox_path, outboxes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECRET = b"local" * 6 + b"xy"
WALL = 1_800_000_000.5
PATIENTS = [f"P{number}" for number in range(12)]


def _raise(path: Path, *patients: str) -> None:
    """An alarm of each, kept in this outbox."""
    store = open_store(path)

    def keep(changed: Sequence[tuple[bytes, bytes]], gone: Sequence[bytes]) -> None:
        store.begin()
        store.alarms.keep(changed, gone, 0)
        store.commit()

    book = AlarmBook(secret.alarm_key(SECRET), os.urandom, keep, Alarms())
    finding = Finding("asystole", Priority.EMERGENCY, "no beat", WALL)
    for patient in patients:
        found = Assessment(Priority.EMERGENCY, (finding,), None)
        book.judged(Judged(os.urandom(16), patient, "b", found), WALL)
    store.close()


def _kept(state: Path) -> dict[int, set[str]]:
    """Patients with an alarm, by the worker in whose outbox it is."""
    found = {}
    for number in range(8):
        if outbox_path(state, number) in outboxes(state):
            store = open_store(outbox_path(state, number))
            opened = [open_kept(secret.alarm_key(SECRET), *one) for one in store.alarms.all()]
            found[number] = {alarm.patient for alarm in opened if alarm is not None}
            assert len(opened) == len(found[number])
            store.close()
    return found


def _homes(count: int) -> dict[int, set[str]]:
    key = secret.pseudonym_key(SECRET)
    return {
        number: {one for one in PATIENTS if home(secret.pseudonym(key, one), count) == number}
        for number in range(count)
    }


def _settle(state: Path, count: int) -> None:
    moving.settle(state, count, SECRET, WALL)


def test_alarms_follow_their_patients_up_and_down(tmp_path: Path) -> None:
    _raise(outbox_path(tmp_path, 0), *PATIENTS)
    for count in (3, 2, 4):
        _settle(tmp_path, count)
        kept = _kept(tmp_path)
        assert {number: kept[number] for number in range(count)} == _homes(count)
        assert not any(kept[number] for number in kept if number >= count)
    _settle(tmp_path, 1)
    assert _kept(tmp_path) == {0: set(PATIENTS), 1: set(), 2: set(), 3: set()}
    assert not (tmp_path / moving.NAME).exists()


def test_nothing_is_opened_while_the_number_stays(tmp_path: Path) -> None:
    """A gateway without workers has the files that it always had."""
    _settle(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []
    _settle(tmp_path, 2)
    assert [one.name for one in tmp_path.iterdir()] == [moving.NAME]
    outbox_path(tmp_path, 0).write_bytes(b"nobody may look at this")
    _settle(tmp_path, 2)


def test_a_crash_in_the_middle_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes: no alarm is lost, and after the next start none is there twice."""
    _raise(outbox_path(tmp_path, 0), *PATIENTS)
    commit, left = Store.commit, 0

    def crash(store: Store) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("planted")
        commit(store)

    for budget in range(40):
        left = budget
        monkeypatch.setattr(Store, "commit", crash)
        try:
            _settle(tmp_path, 3)
        except OutboxError:
            monkeypatch.undo()
            assert set().union(*_kept(tmp_path).values()) == set(PATIENTS)
        else:
            break
    monkeypatch.undo()
    assert budget > 3
    assert _kept(tmp_path) == _homes(3)


def test_a_note_that_cannot_be_read_means_again(tmp_path: Path) -> None:
    _raise(outbox_path(tmp_path, 0), *PATIENTS)
    (tmp_path / moving.NAME).write_text("two")
    _settle(tmp_path, 2)
    assert _kept(tmp_path) == _homes(2)
    assert (tmp_path / moving.NAME).read_text() == "2\n"


def test_a_running_gateway_is_not_moved_under(tmp_path: Path) -> None:
    path = outbox_path(tmp_path, 0)
    running = open_store(path)
    with pytest.raises(OutboxError, match="in use by a running gateway"):
        _settle(tmp_path, 2)
    running.close()
    assert not (tmp_path / moving.NAME).exists()


def test_an_alarm_that_cannot_be_opened_stays_where_it_is(tmp_path: Path) -> None:
    store = open_store(outbox_path(tmp_path, 1))
    store.begin()
    store.alarms.keep([(b"x" * 16, b"rubbish" * 9)], [], 0)
    store.commit()
    store.close()
    (tmp_path / moving.NAME).write_text("2")
    _settle(tmp_path, 1)
    store = open_store(outbox_path(tmp_path, 1))
    assert len(store.alarms.all()) == 1
    store.close()
