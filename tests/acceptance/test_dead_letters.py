"""What the cloud store refused for good, in the hands of a person: seen, exported, opened, tried
again, deleted; with the gateway running or not, and with several workers."""

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from gateway import cli
from gateway.lane import Lane
from gateway.outbox.offline import offline
from tests.acceptance.ward import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Device, Ward


def _hr(value: int) -> bytes:
    return json.dumps([{"n": "hr", "u": "1/min", "v": value}]).encode()


def _refuse(path: Path) -> int:
    """Everything that waits in an outbox becomes a dead letter; how many."""
    with offline(path) as store:
        entries, _ = store.read(Lane.ROUTINE, 0, 1 << 62, 1000, 1 << 30)
        store.begin()
        store.bury(Lane.ROUTINE, [(number, "a test says so") for number, _ in entries], 7)
        store.commit()
    return len(entries)


@pytest.fixture
def devices(ward: Ward) -> list[Device]:
    """Of four patients; no cloud store runs."""
    return [ward.enter(f"bracelet-{n}", f"P{n}") for n in range(4)]


def _ask(ward: Ward, *words: str, code: int = 0) -> str:
    """A command without a process of its own: starting so many is most of a test's time."""
    said, complained = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, ward.environment),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        assert cli.main(["--config", str(ward.config), *words]) == code, complained.getvalue()
    return (complained if code else said).getvalue()


def _read(ward: Ward, *words: str) -> list[dict[str, Any]]:
    """What the doctor can open."""
    lines = _ask(ward, "read", "--as", "doctor", "--format", "jsonl", *words)
    return [json.loads(line) for line in lines.splitlines()]


def _listed(ward: Ward) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(_ask(ward, "outbox", "list", "--json"))
    return rows


def test_dead_letters_of_a_gateway_alone(ward: Ward, devices: list[Device], tmp_path: Path) -> None:
    ward.start_gateway()
    assert "no dead letters" in _ask(ward, "outbox", "list")
    for n, device in enumerate(devices):
        assert ward.post(device, "v", _hr(60 + n)) == 0x44
    assert ward.stop_gateway() == 0
    assert _refuse(ward.state / "outbox.db") == 4

    # Stopped: from the disk.
    stopped = _listed(ward)
    assert [(row["patient"], row["lane"], row["reason"]) for row in stopped] == [
        (f"P{n}", "routine", "a test says so") for n in range(4)
    ]
    file = tmp_path / "dead.cbor"
    assert "4 sealed records written" in _ask(ward, "outbox", "export", str(file))
    assert "cannot be written" in _ask(ward, "outbox", "export", str(file), code=1)
    opened = _read(ward, "--file", str(file))
    assert [one["senml"][0]["v"] for one in opened] == [60, 61, 62, 63]
    assert [one["id"] for one in opened] == [row["id"] for row in stopped]
    assert b"P1" not in file.read_bytes(), "pseudonyms only"
    assert "1 of 1 dead letters deleted" in _ask(ward, "outbox", "drop", stopped[0]["number"])

    # Running: the same, asked of the gateway.
    ward.start()
    assert _listed(ward) == stopped[1:]
    again = tmp_path / "again.cbor"
    _ask(ward, "outbox", "export", str(again))
    assert _read(ward, "--file", str(again)) == opened[1:]
    assert "say --yes too" in _ask(ward, "outbox", "drop", "--all", code=1)
    assert "by their numbers, or say --all" in _ask(ward, "outbox", "retry", code=1)
    _ask(ward, "outbox", "drop", stopped[0]["number"], code=1)  # gone already
    assert "1 of 1" in _ask(ward, "outbox", "drop", stopped[1]["number"])
    assert f"deleted by hand: {stopped[1]['number']}" in ward.log("gateway")
    assert "2 of 2 dead letters to be tried again" in _ask(ward, "outbox", "retry", "--all")
    ward.delivered()
    assert [one["senml"][0]["v"] for one in _read(ward)] == [62, 63]
    assert _listed(ward) == []
    ward.assert_no_bugs()


def test_dead_letters_of_workers_and_of_what_they_left(ward: Ward, devices: list[Device]) -> None:
    """Outboxes of former workers answer through the first."""
    ward.environment["WARD_GATEWAY_COAP__WORKERS"] = "3"
    ward.start_gateway()
    for n, device in enumerate(devices):
        assert ward.post(device, "v", _hr(60 + n)) == 0x44
    assert ward.stop_gateway() == 0
    dead = [_refuse(path) for path in sorted(ward.state.glob("outbox*.db"))]
    assert sum(dead) == 4
    ward.environment["WARD_GATEWAY_COAP__WORKERS"] = "2"
    ward.start()
    names = [row["number"] for row in _listed(ward)]
    assert len(names) == 4
    assert all(":" in name for name in names)
    assert len({name.split(":")[0] for name in names}) == sum(count > 0 for count in dead)
    assert "1 of 1" in _ask(ward, "outbox", "drop", names.pop())
    assert "3 of 3" in _ask(ward, "outbox", "retry", *names)
    until(lambda: not ward.waiting("routine"))
    assert len(_read(ward)) == 3
    assert ward.stop_gateway() == 0
