"""Which worker is which, and what it may hold."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gateway.outbox.config import Config
from gateway.workers.place import ALONE, Place, home, outbox_path, outboxes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_home_is_the_same_in_every_process_and_after_every_restart() -> None:
    assert [home(bytes([n]) * 16, 4) for n in range(6)] == [1, 3, 0, 2, 2, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 64])
def test_homes_are_spread(count: int) -> None:
    found = Counter(home(os.urandom(16), count) for _ in range(count * 500))
    assert set(found) == set(range(count))
    assert max(found.values()) < 700


def test_the_first_worker_has_the_outbox_of_a_gateway_alone(tmp_path: Path) -> None:
    assert outbox_path(tmp_path, 0).name == "outbox.db"
    assert outbox_path(tmp_path, 3).name == "outbox-3.db"


def test_outboxes_are_found_also_while_they_are_repaired(tmp_path: Path) -> None:
    """Of a damaged one there may be nothing but the note, between two renames."""
    for name in (
        *("outbox-2.db", "outbox-10.db", "outbox-10.db-wal", "outbox-10.mark"),
        *("outbox-3.damaged", "outbox-2.db-damaged-1", "outbox-x.db", "other.db"),
    ):
        (tmp_path / name).touch()
    assert [one.name for one in outboxes(tmp_path)] == [
        "outbox-2.db",
        "outbox-3.db",
        "outbox-10.db",
    ]
    (tmp_path / "outbox.damaged").touch()
    assert outboxes(tmp_path)[0].name == "outbox.db"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shares_of_the_outbox_are_the_whole(count: int) -> None:
    whole = Config(max_bytes=1000, reserve_bytes=100)
    parts = [Place(number, count).outbox(whole) for number in range(count)]
    assert sum(part.max_bytes for part in parts) == 1000
    assert sum(part.reserve_bytes for part in parts) == 100


def test_associations_are_shared_with_something_over_for_an_uneven_spread() -> None:
    assert ALONE.associations(4096) == 4096
    assert Place(1, 4).associations(4096) == 1280
    assert Place(1, 2).associations(1) == 1


def test_people_ask_the_one_process_or_the_supervisor() -> None:
    assert ALONE.control == "control.sock"
    assert Place(0, 2).control == "control-0.sock"
