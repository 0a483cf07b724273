"""Floods through kills, stops and outages: what was acknowledged is read back, each pack once."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.acceptance.conftest import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.acceptance.conftest import Ward

Key = tuple[str, int, int]
"""A pack: device, boot, seq."""


class Difference(NamedTuple):
    """Between what was acknowledged and what was read. Both empty: the promise was kept."""

    missing: list[Key]
    """Acknowledged and not read."""
    doubled: list[Key]
    """Read more than once."""


def compare(acknowledged: Iterable[Key], read: Iterable[Key]) -> Difference:
    """A pack may be read that was not acknowledged (its answer was lost), but never twice."""
    times = Counter(read)
    return Difference(
        missing=sorted(set(acknowledged) - times.keys()),
        doubled=sorted(key for key, count in times.items() if count > 1),
    )


def test_the_comparison_finds_what_is_planted() -> None:
    """A missing pack is found, a doubled one too, and nothing where nothing is wrong."""
    acknowledged = [("b1", 7, 0), ("b1", 7, 1), ("b2", 7, 0)]
    assert compare(acknowledged, acknowledged) == ([], [])
    assert compare(acknowledged, [*acknowledged, ("b2", 7, 1)]) == ([], [])
    assert compare(acknowledged, acknowledged[1:]) == ([("b1", 7, 0)], [])
    assert compare(acknowledged, [*acknowledged, ("b1", 7, 1)]) == ([], [("b1", 7, 1)])
    assert compare(acknowledged, [("b1", 8, 0), *acknowledged[1:]]) == ([("b1", 7, 0)], [])


class Flood:
    """``simulate`` in the background, with its journal of what was acknowledged."""

    def __init__(self, ward: Ward, folder: Path, *, nodes: int, speed: int, seconds: float) -> None:
        self.journal = folder / "journal.jsonl"
        self._process = ward.spawn(
            *("simulate", "--config", str(ward.config), "simulate", "--gateway", ward.uri),
            *("--nodes", str(nodes), "--speed", str(speed), "--for", str(seconds)),
            *("--journal", str(self.journal), "--json"),
        )

    def count(self) -> int:
        """Acknowledged so far."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def reached(self, count: int) -> None:
        """Wait until so many are acknowledged."""
        until(lambda: self.count() >= count)

    def runs(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> dict[str, Any]:
        """Ctrl-C: what `simulate` says of itself. Packs under way then are not acknowledged."""
        self._process.send_signal(signal.SIGINT)
        return self._summary()

    def finish(self) -> dict[str, Any]:
        """Wait for the end: everything sent is acknowledged by then."""
        summary = self._summary()
        assert self._process.returncode == 0, summary
        assert summary["acknowledged"] == summary["sent"]
        return summary

    def _summary(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=2 * WITHIN_S)
        summary: dict[str, Any] = json.loads(out)
        assert summary["acknowledged"] == self.count()
        return summary

    def acknowledged(self) -> list[Key]:
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [(line["device"], line["boot"], line["seq"]) for line in lines]


def _keys(records: Iterable[dict[str, Any]]) -> Iterator[Key]:
    for record in records:
        values = {one["n"].rpartition("/")[2]: one.get("v") for one in record["senml"]}
        if "seq" in values:
            yield record["device"], int(values["boot"]), int(values["seq"])


def _read_by_all(ward: Ward) -> list[Key]:
    """What the two recipients who share the lanes read together."""
    ward.delivered()
    return [*_keys(ward.read("doctor")), *_keys(ward.read("alarm-centre"))]


def test_kill_in_the_middle_of_a_flood(ward: Ward, tmp_path: Path) -> None:
    """`kill -9` twice while 20 nodes send 400 packs a second: none is missing, none doubled."""
    ward.start()
    flood = Flood(ward, tmp_path, nodes=20, speed=20, seconds=20)
    for more in (400, 600):
        flood.reached(flood.count() + more)
        assert ward.stop_gateway(signal.SIGKILL) == -signal.SIGKILL
        assert flood.runs()
        ward.start_gateway()
    flood.reached(flood.count() + 1000)
    # A node that lost an answer to the kill would go on for 20 seconds to get it.
    assert flood.interrupt()["handshakes"] > 20
    assert compare(flood.acknowledged(), _read_by_all(ward)) == ([], [])
    status = ward.status()["outbox"]
    assert (status["dead"], status["damaged"], status["lost"]) == (0, 0, 0)
    ward.assert_no_bugs()


def test_stop_in_the_middle_of_a_flood(ward: Ward, tmp_path: Path) -> None:
    """SIGTERM ends the gateway with code 0 and says goodbye to its nodes; nothing is lost."""
    ward.start()
    flood = Flood(ward, tmp_path, nodes=10, speed=20, seconds=2)
    flood.reached(100)
    assert ward.stop_gateway(signal.SIGTERM) == 0
    assert flood.runs()
    ward.start_gateway()
    summary = flood.finish()
    assert summary["handshakes"] >= 20
    assert compare(flood.acknowledged(), _read_by_all(ward)) == ([], [])
    ward.assert_no_bugs()


def test_cloud_away_during_a_flood(ward: Ward, tmp_path: Path) -> None:
    """The cloud store goes and comes back: everything is stored meanwhile and delivered then."""
    device = ward.add_device("bracelet-1")
    ward.start()
    flood = Flood(ward, tmp_path, nodes=20, speed=20, seconds=6)
    flood.reached(400)
    assert ward.stop_cloud() == 0
    words = ("--psk-identity", device.id, "--psk-key", device.key, f"{ward.uri}/a")
    pack = '[{"n":"hr","v":71},{"n":"boot","v":1},{"n":"seq","v":1}]'
    assert ward.command("send", *words, pack) == "2.04 Changed\n"
    flood.reached(flood.count() + 800)
    assert ward.waiting("routine") > 500
    assert ward.waiting("emergency") >= 1
    ward.start_cloud()
    # The emergency lane asks again at least every two seconds, whatever the routine lane does.
    until(lambda: not ward.waiting("emergency"), within_s=4)
    flood.finish()
    read = _read_by_all(ward)
    assert compare([*flood.acknowledged(), ("bracelet-1", 1, 1)], read) == ([], [])
    assert ward.status()["outbox"]["dead"] == 0
    ward.assert_no_bugs()
