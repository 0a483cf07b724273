"""Floods through kills, stops and outages: what was acknowledged is read back, each pack once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from gateway.coap.numbers import Code
from gateway.delivery.lanes import PROFILES
from gateway.delivery.pump import PROBE_ROWS
from gateway.lane import Lane
from tests.acceptance.flood import Flood, Key, compare, read_by_all
from tests.acceptance.ward import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Device, Ward


def test_the_comparison_finds_what_is_planted() -> None:
    """A missing pack is found, a doubled one too, and nothing where nothing is wrong."""
    acknowledged = [("b1", 7, 0), ("b1", 7, 1), ("b2", 7, 0)]
    assert compare(acknowledged, acknowledged) == ([], [])
    assert compare(acknowledged, [*acknowledged, ("b2", 7, 1)]) == ([], [])
    assert compare(acknowledged, acknowledged[1:]) == ([("b1", 7, 0)], [])
    assert compare(acknowledged, [*acknowledged, ("b1", 7, 1)]) == ([], [("b1", 7, 1)])
    assert compare(acknowledged, [("b1", 8, 0), *acknowledged[1:]]) == ([("b1", 7, 0)], [])


EMERGENCY: Key = ("bracelet-1", 1, 1)
BATCH = PROFILES[Lane.ROUTINE].rows


def _send_emergency(ward: Ward, device: Device) -> None:
    pack = b'[{"n":"hr","v":71},{"n":"boot","v":1},{"n":"seq","v":1}]'
    assert ward.post(device, "a", pack) == Code.CHANGED


def test_kill_in_the_middle_of_a_flood(ward: Ward, tmp_path: Path) -> None:
    """`kill -9` twice while 40 nodes send 200 packs a second: none is missing, none doubled."""
    ward.start()
    flood = Flood(ward, tmp_path, nodes=40, speed=5, seconds=20)
    # The second comes when they have caught up: while they do, every one waits for an answer, and
    # one whose answer was lost tries for 20 seconds to get it before it shakes hands again.
    for more in (150, 600):
        flood.reached(flood.count() + more)
        assert ward.stop_gateway(signal.SIGKILL) == -signal.SIGKILL
        assert flood.runs()
        ward.start_gateway()
    flood.reached(flood.count() + 150)
    assert flood.interrupt()["handshakes"] > 40
    assert compare(flood.acknowledged(), read_by_all(ward)) == ([], [])
    status = ward.status()["outbox"]
    assert (status["dead"], status["damaged"], status["lost"]) == (0, 0, 0)
    ward.assert_no_bugs()


def test_sent_again_after_a_kill(ward: Ward) -> None:
    """A node that lost its answer to the kill sends its pack again over a new association: it is
    acknowledged and not stored twice, whether it was delivered meanwhile or not."""
    device = ward.enter("bracelet-1")
    ward.start_gateway()

    def send(path: str, seq: int) -> None:
        pack = f'[{{"n":"hr","v":71}},{{"n":"boot","v":1}},{{"n":"seq","v":{seq}}}]'
        assert ward.post(device, path, pack.encode()) == Code.CHANGED

    send("v", 0)
    send("a", 1)
    assert ward.stop_gateway(signal.SIGKILL) == -signal.SIGKILL
    ward.start()
    for _ in range(2):
        send("v", 0)
        send("a", 1)
        ward.delivered()
    send("v", 2)
    assert sorted(read_by_all(ward)) == [(device.id, 1, 0), (device.id, 1, 1), (device.id, 1, 2)]
    ward.assert_no_bugs()


def test_stop_in_the_middle_of_a_flood(ward: Ward, tmp_path: Path) -> None:
    """SIGTERM ends the gateway with code 0, whether or not there is a cloud store, and says goodbye
    to its nodes. What waited is delivered by the next run, an emergency before the backlog."""
    device = ward.enter("bracelet-1")
    ward.start_gateway()
    flood = Flood(ward, tmp_path, nodes=20, speed=20, seconds=20)
    flood.reached(200)
    assert ward.stop_gateway(signal.SIGTERM) == 0
    assert flood.runs()
    ward.start_gateway()
    flood.reached(flood.count() + 2 * BATCH)
    assert flood.interrupt()["handshakes"] > 20
    _send_emergency(ward, device)
    assert ward.waiting("routine") > 2 * BATCH
    assert ward.stop_gateway(signal.SIGTERM) == 0
    ward.start()
    read = read_by_all(ward)
    assert compare([*flood.acknowledged(), EMERGENCY], read) == ([], [])
    [emergency] = [one.id for one in ward.opened("alarm-centre") if one.device == device.id]
    place = ward.places("alarm-centre")[emergency]
    overtaken = [at for at in ward.places("doctor").values() if at > place]
    # Both lanes begin at once: no more than one batch of the backlog can be there before it.
    assert len(overtaken) > BATCH
    ward.assert_no_bugs()


def test_cloud_away_during_a_flood(ward: Ward, tmp_path: Path) -> None:
    """The cloud store goes and comes back: everything is stored meanwhile and delivered then."""
    device = ward.enter("bracelet-1")
    ward.start()
    flood = Flood(ward, tmp_path, nodes=20, speed=10, seconds=20)
    flood.reached(100)
    assert ward.stop_cloud() == 0
    _send_emergency(ward, device)
    flood.reached(flood.count() + 250)
    assert ward.waiting("routine") > 200
    assert ward.waiting("emergency") >= 1
    backlog = ward.waiting("routine")
    ward.start_cloud()
    # The emergency lane asks again at least every two seconds, and the routine lane lets it go
    # first.
    until(lambda: not ward.waiting("emergency"), within_s=4)
    flood.reached(flood.count() + 100)
    flood.interrupt()
    read = read_by_all(ward)
    assert compare([*flood.acknowledged(), EMERGENCY], read) == ([], [])
    emergencies = ward.places("alarm-centre")
    (emergency,) = (
        emergencies[one.id] for one in ward.opened("alarm-centre") if one.device == device.id
    )
    overtaken = sum(at > emergency for at in ward.places("doctor").values())
    # But for one small probe, which may have been on its way when the cloud came back.
    assert overtaken >= backlog - PROBE_ROWS
    assert ward.status()["outbox"]["dead"] == 0
    ward.assert_no_bugs()
