"""Refusals are told at once, and then once a minute a reason."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from gateway.dtls.refused import Refused
from gateway.ingress.refusals import EVERY_S, Refusals


class Server:
    """What a server counts."""

    def __init__(self) -> None:
        self.refused: dict[str, Refused] = {}
        self.records = 0

    def unauthentic(self) -> int:
        return self.records


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> SimpleNamespace:
    caplog.set_level(logging.INFO)
    server = Server()
    refusals = Refusals(server)  # type: ignore[arg-type]

    def lines(now: float) -> list[str]:
        caplog.clear()
        refusals.sweep(now)
        return [record.getMessage() for record in caplog.records]

    return SimpleNamespace(server=server, lines=lines)


def test_the_first_is_told_at_once(told: SimpleNamespace) -> None:
    assert told.lines(5.0) == []
    told.server.refused["wrong key"] = Refused(1, "device-1 at 192.0.2.1")
    told.server.records = 3
    assert told.lines(5.25) == [
        "handshakes refused, wrong key: 1; at last device-1 at 192.0.2.1",
        "dropped, records that fail authentication: 3",
    ]
    assert told.lines(5.5) == []
    assert told.lines(500.0) == []


def test_more_are_told_once_a_minute_a_reason(told: SimpleNamespace) -> None:
    lines = []
    for n in range(4 * 300):
        told.server.refused["wrong key"] = Refused(10 * n + 1, "somebody at 192.0.2.1")
        lines += told.lines(n / 4)
        if n == 100:
            told.server.refused["another"] = Refused(1, "somebody at 192.0.2.1")
    assert len([line for line in lines if "another" in line]) == 1
    counts = [int(line.split(": ")[1].split(";")[0]) for line in lines if "wrong" in line]
    assert len(counts) == 300 / EVERY_S
    assert sum(counts) == 10 * (4 * 240) + 1
