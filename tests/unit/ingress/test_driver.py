"""Sockets to disk and back: a real server and real nodes, intake, both lanes, store and writer."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.association import Path
from gateway.lane import Lane
from tests.unit.ingress.bench import SENML_JSON, Bench

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

    from tests.unit.conftest import Desk


@pytest.fixture
async def bench(desk: Desk, tmp_path: pathlib.Path) -> AsyncIterator[Bench]:
    bench = Bench(desk, tmp_path)
    await bench.start()
    yield bench
    await bench.stop()


def hr(value: float) -> bytes:
    """A pack without any time: always a new measurement."""
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}])


def counted(value: float, seq: int) -> bytes:
    """A pack with the device's counters: the same bytes are the same message."""
    return cbor2.dumps([{0: "hr", 1: "1/min", 2: value}, {0: "boot", 2: 1}, {0: "seq", 2: seq}])


async def test_an_answer_comes_after_the_commit_and_not_before(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    bench.disk.reached.clear()
    node.sends(bench.post(hr(72), mid=77, token=b"abc"))
    assert await asyncio.to_thread(bench.disk.reached.wait, 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert node.heard == []
    bench.disk.free.set()
    await bench.settled()
    (answer,) = node.hears()
    assert answer == Message(Type.ACK, Code.CHANGED, 77, b"abc", (), b"")
    assert bench.stored() == 1


async def test_what_is_stored_can_be_opened_by_who_may(bench: Bench) -> None:
    """The record is the device's whatever the payload says, and carries what was sent."""
    node = bench.node()
    node.sends(bench.post(hr(72)))
    await bench.settled()
    (entry,) = await bench.entries()
    opened = bench.desk.open(entry, "doctor")
    assert (opened.plaintext.device, opened.plaintext.patient) == ("bracelet-1", "P1")
    assert cbor2.loads(opened.plaintext.senml or b"")[0][2] == 72
    assert opened.header.received_ms == int(bench.clock.utc * 1000)
    assert b"P1" not in entry.sealed


async def test_a_repeated_message_gets_the_same_bytes_and_is_stored_once(bench: Bench) -> None:
    node = bench.node()
    message = bench.post(hr(72))
    node.sends(message)
    await bench.settled()
    (first,) = node.heard
    node.heard.clear()
    for _ in range(3):
        bench.clock.now += 2
        node.sends(message)
    assert node.heard == [first] * 3
    await bench.settled()
    assert bench.stored() == 1
    assert bench.driver.counts["replayed"] == 3


async def test_a_message_repeated_while_it_is_being_stored_is_dropped(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    message = bench.post(hr(72))
    node.sends(message, message)
    node.sends(message)
    bench.disk.free.set()
    await bench.settled()
    assert len(node.heard) == 1
    assert bench.stored() == 1
    assert bench.driver.counts["in_progress"] == 2


async def test_an_association_whose_numbers_are_used_up_is_ended_and_costs_the_others_nothing(
    bench: Bench,
) -> None:
    worn, other = bench.node(), bench.node("bracelet-2")
    await bench.settled()
    [association] = bench.server.of_device("bracelet-1")
    association._protector._number = (1 << 48) - 1
    bench.nodes.remove(worn)  # what it hears ends its client, in the middle of the gateway's work
    sent = bench.sent_datagrams
    bench.receive(*worn.writes(bench.post(hr(70))), *other.writes(bench.post(hr(71))))
    await bench.settled()
    assert len(other.hears()) == 1
    assert bench.sent_datagrams == sent + 2, "an answer and a goodbye"
    assert bench.server.of_device("bracelet-1") == []
    again = bench.node()
    again.sends(bench.post(hr(72)))
    await bench.settled()
    assert len(again.hears()) == 1


async def test_other_bytes_under_the_same_id_are_a_new_message(bench: Bench) -> None:
    """Losing a measurement is worse than storing it twice."""
    node = bench.node()
    node.sends(bench.post(hr(72), mid=5))
    await bench.settled()
    node.sends(bench.post(hr(73), mid=5))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED] * 2
    assert bench.stored() == 2


async def test_two_devices_may_use_the_same_ids(bench: Bench) -> None:
    one, two = bench.node("bracelet-1"), bench.node("bracelet-2")
    message = bench.post(hr(72), mid=9)
    bench.receive(*one.writes(message), *two.writes(message))
    await bench.settled()
    assert len(one.heard) == len(two.heard) == 1
    assert {device for _, device in bench.admitted} == {"bracelet-1", "bracelet-2"}
    assert bench.stored() == 2


@pytest.mark.parametrize(
    ("payload", "how", "code"),
    [
        (b"\xff", {}, Code.BAD_REQUEST),
        (cbor2.dumps([]), {}, Code.BAD_REQUEST),
        (hr(10_000), {}, Code.BAD_REQUEST),
        (b"{}", {"content_format": SENML_JSON}, Code.BAD_REQUEST),
        (cbor2.dumps([{-2: "bracelet-2/", 0: "hr", 2: 72}]), {}, Code.FORBIDDEN),
        (b"\x80" + b"x" * 8200, {}, Code.REQUEST_ENTITY_TOO_LARGE),
        (b"no COSE", {"path": ("s",), "content_format": 16}, Code.BAD_REQUEST),
    ],
)
async def test_what_is_refused_is_answered_at_once_with_a_reason(
    bench: Bench, payload: bytes, how: dict[str, Any], code: Code
) -> None:
    """The same answer to the same message again; nothing is stored, nothing is remembered."""
    node = bench.node()
    message = bench.post(payload, **how)
    node.sends(message)
    (answer,) = node.hears()
    assert (answer.type, answer.code, answer.token) == (Type.ACK, code, b"tk")
    assert answer.payload or answer.uint(Option.SIZE1)
    node.sends(message)
    assert node.hears() == [answer]
    node.sends(bench.post(hr(72)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_a_revoked_device_is_refused_while_its_association_lives(bench: Bench) -> None:
    node = bench.node()
    bench.desk.devices.revoke("bracelet-1", today="2027")
    bench.desk.ward.refresh()
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.FORBIDDEN
    assert b"revoked" in answer.payload


async def test_a_refused_message_is_a_new_attempt_when_it_comes_again(bench: Bench) -> None:
    """The very same datagram, once there is a token: 4.29 is not remembered for it."""
    bench.rates.per_s = 1
    node = bench.node()
    posts = [bench.post(hr(72)) for _ in range(3)]
    node.sends(*posts)
    await bench.settled()
    answers = {one.mid: one.code for one in node.hears()}
    codes = [answers[decode_untrusted(post).mid] for post in posts]
    refused = posts[codes.index(Code.TOO_MANY_REQUESTS)]
    bench.clock.now += 5.0
    node.sends(refused)
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]


async def test_a_device_over_its_rate_is_told_when_to_come_back(bench: Bench) -> None:
    """Its emergencies have a rate of their own; other devices are not held back."""
    bench.rates.per_s = 1
    bench.emergency_rates.per_s = 1
    node, other = bench.node(), bench.node("bracelet-2")
    node.sends(*(bench.post(hr(72)) for _ in range(5)))
    node.sends(*(bench.post(hr(72), path=("a",)) for _ in range(3)))
    other.sends(bench.post(hr(72)))
    await bench.settled()
    answers = node.hears()
    # Three routine messages and one emergency are too many. Two are told so, the rest is silence.
    assert Counter(one.code for one in answers) == {Code.TOO_MANY_REQUESTS: 2, Code.CHANGED: 4}
    assert bench.driver.counts["rate"] == 4
    refused = next(one for one in answers if one.code == Code.TOO_MANY_REQUESTS)
    assert refused.uint(Option.MAX_AGE) == 1
    assert [one.code for one in other.hears()] == [Code.CHANGED]
    bench.clock.now += 1.0
    node.sends(*(bench.post(hr(72)) for _ in range(3)))
    await bench.settled()
    assert Counter(one.code for one in node.hears()) == {
        Code.TOO_MANY_REQUESTS: 1,
        Code.CHANGED: 1,
    }
    status = bench.writer.status()
    assert (status.lanes[Lane.EMERGENCY].rows, status.lanes[Lane.ROUTINE].rows) == (2, 4)


async def test_a_full_outbox_refuses_routine_and_takes_emergencies(bench: Bench) -> None:
    """5.03 with Max-Age, before anything is queued."""
    node = bench.node()
    big = cbor2.dumps([{0: f"x{number}", 3: "y" * 40} for number in range(20)])
    answers: list[Message] = []
    while not any(one.code == Code.SERVICE_UNAVAILABLE for one in answers):
        assert len(answers) < 100
        node.sends(bench.post(big))
        await bench.settled()
        answers += node.hears()
    assert (answers[-1].uint(Option.MAX_AGE) or 0) >= 1
    before = bench.stored()
    node.sends(bench.post(big, path=("alarm",)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == before + 1


async def test_a_gateway_that_stops_takes_nothing_new(bench: Bench) -> None:
    node = bench.node()
    bench.driver.refusing = "the gateway is stopping"
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.SERVICE_UNAVAILABLE
    assert answer.uint(Option.MAX_AGE) == 3
    assert bench.stored() == 0


async def test_who_cannot_be_read_by_anybody_is_a_fault_of_ours(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """5.00, and a line for the operator."""
    for name in ("doctor", "alarm-centre"):
        bench.desk.narrow(name, "P1")
    node = bench.node("bracelet-2")
    node.sends(bench.post(hr(72)))
    (answer,) = node.hears()
    assert answer.code == Code.INTERNAL_SERVER_ERROR
    assert "cannot be sealed" in caplog.text
    assert bench.stored() == 0


async def test_a_message_that_asks_for_no_confirmation_gets_an_answer_of_its_own(
    bench: Bench,
) -> None:
    """NON, with Message IDs of ours that do not repeat; a copy is answered and stored once."""
    node = bench.node()
    messages = [bench.post(hr(72), kind=Type.NON, token=bytes([number])) for number in range(20)]
    node.sends(*messages)
    node.sends(messages[0])
    await bench.settled()
    node.sends(messages[1])
    answers = node.hears()
    assert {(one.type, one.code) for one in answers} == {(Type.NON, Code.CHANGED)}
    assert {one.token for one in answers} == {bytes([number]) for number in range(20)}
    assert len({one.mid for one in answers}) == 20
    assert bench.stored() == 20


async def test_who_wants_no_answer_gets_none(bench: Bench) -> None:
    """No-Response (RFC 7967): an empty acknowledgement to a CON, silence to a NON."""
    node = bench.node()
    silence = [(int(Option.NO_RESPONSE), b"\x02")]
    node.sends(
        bench.post(hr(72), kind=Type.NON, extra=silence), bench.post(hr(72), mid=70, extra=silence)
    )
    await bench.settled()
    assert node.hears() == [Message(Type.ACK, Code.EMPTY, 70, b"", (), b"")]
    assert bench.stored() == 2


async def test_a_pack_sent_again_over_a_new_association_is_stored_once(bench: Bench) -> None:
    """By the device's counters; and acknowledged, or it would come for ever."""
    bench.node().sends(bench.post(counted(72, 1)))
    await bench.settled()
    again = bench.node()
    again.sends(bench.post(counted(72, 1)))
    await bench.settled()
    assert [one.code for one in again.hears()] == [Code.CHANGED]
    assert bench.stored() == 1
    again.sends(bench.post(counted(72, 2)))
    await bench.settled()
    assert bench.stored() == 2


async def test_a_pack_sent_again_after_a_restart_is_stored_once(bench: Bench) -> None:
    bench.node().sends(bench.post(counted(72, 1)))
    await bench.settled()
    await bench.restart()
    node = bench.node()
    node.sends(bench.post(counted(72, 1)))
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_equal_measurements_are_two_measurements(bench: Bench) -> None:
    node = bench.node()
    node.sends(bench.post(hr(72)), bench.post(hr(72)))
    await bench.settled()
    assert bench.stored() == 2


async def test_a_pack_sent_again_while_the_first_is_being_stored_is_not_acknowledged(
    bench: Bench,
) -> None:
    """Not before it is on disk; then the device's next try is."""
    first, second = bench.node(), bench.node()
    await bench.settled()
    bench.disk.free.clear()
    first.sends(bench.post(counted(72, 1)))
    again = bench.post(counted(72, 1))
    second.sends(again)
    assert second.heard == []
    bench.disk.free.set()
    await bench.settled()
    assert second.heard == []
    second.sends(again)
    await bench.settled()
    assert [one.code for one in second.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_a_burst_of_everything(bench: Bench) -> None:
    """Garbage, strangers, refusals and both lanes between good packs: each gets its own."""
    node, other = bench.node(), bench.node("bracelet-2")
    good = [bench.post(hr(60 + number)) for number in range(10)]
    datagrams = node.writes(*good)
    tampered = bytes([*datagrams[0][0][:-1], datagrams[0][0][-1] ^ 1])
    bench.receive(
        (b"", node.path),
        (os.urandom(100), node.path),
        (tampered, node.path),
        *datagrams[:5],
        (os.urandom(100), Path(0, ("203.0.113.9", 9))),
        *other.writes(bench.post(b"\xff"), bench.post(hr(50), path=("alarm",)), b"\x40"),
        *datagrams[5:],
        datagrams[9],  # the very same record: replay protection drops it
    )
    await bench.settled()
    assert [one.code for one in node.hears()] == [Code.CHANGED] * 10
    assert sorted(one.code for one in other.hears()) == [Code.CHANGED, Code.BAD_REQUEST]
    status = bench.writer.status()
    assert (status.lanes[Lane.EMERGENCY].rows, status.lanes[Lane.ROUTINE].rows) == (1, 10)


async def test_an_exception_costs_its_message_and_a_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the burst; and the message may come again."""
    bad, good = bench.node("bracelet-2"), bench.node("bracelet-1")
    assignment = bench.desk.ward.assignment("bracelet-2")
    assert assignment is not None
    readers = dict(assignment.readers)
    assignment.readers.clear()  # a KeyError in the middle of the intake
    message = bench.post(counted(72, 1))
    bench.receive(
        *good.writes(bench.post(hr(70))), *bad.writes(message), *good.writes(bench.post(hr(71)))
    )
    await bench.settled()
    assert [one.code for one in good.hears()] == [Code.CHANGED] * 2
    assert bad.heard == []
    assert bench.driver.counts["bug"] == 1
    assert "because of a bug" in caplog.text
    assignment.readers.update(readers)
    bad.sends(message)
    await bench.settled()
    assert [one.code for one in bad.hears()] == [Code.CHANGED]
    assert bench.stored() == 3


async def test_a_broken_disk_acknowledges_nothing(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.broken = True
    bench.disk.reached.clear()
    node.sends(bench.post(hr(72)))
    assert "the disk is broken" in str(await asyncio.wait_for(bench.failure, 5))
    for _ in range(20):
        await asyncio.sleep(0)
    assert node.heard == []


async def test_a_disk_that_turns_out_full_refuses_and_takes_the_same_message_later(
    bench: Bench,
) -> None:
    node = bench.node()
    await bench.settled()
    bench.disk.full = True
    node.sends(bench.post(counted(72, 1)))
    node.sends(bench.post(counted(72, 2), path=("a",)))
    await bench.settled()
    refused = node.hears()
    assert [one.code for one in refused] == [Code.SERVICE_UNAVAILABLE] * 2
    assert all(one.uint(Option.MAX_AGE) for one in refused)
    assert bench.driver.counts["outbox_full"] == 2
    bench.disk.full = False
    again = bench.node()
    again.sends(bench.post(counted(72, 1)))
    again.sends(bench.post(counted(72, 2), path=("a",)))
    await bench.settled()
    assert [one.code for one in again.hears()] == [Code.CHANGED] * 2
    assert bench.stored() == 2
    assert not bench.failure.done()


async def test_the_other_lane_stores_as_well_and_answers_after_the_commit(bench: Bench) -> None:
    """Block1, which the fast lane does not claim; the same intake, the same promise."""
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    bench.disk.reached.clear()
    block = [(int(Option.BLOCK1), b"\x06")]
    node.sends(bench.post(hr(72), mid=7, extra=block))
    assert await asyncio.to_thread(bench.disk.reached.wait, 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(one.code == Code.CHANGED for one in node.hears())
    bench.disk.free.set()
    await bench.settled()
    await bench.answers(node)
    (answer,) = node.hears()
    assert answer.code == Code.CHANGED
    assert bench.stored() == 1


async def test_both_lanes_recognise_each_others_packs(bench: Bench) -> None:
    node = bench.node()
    node.sends(bench.post(counted(72, 1)))
    await bench.settled()
    block = [(int(Option.BLOCK1), b"\x06")]
    node.hears()
    node.sends(bench.post(counted(72, 1), extra=block))
    await bench.answers(node)
    assert [one.code for one in node.hears()] == [Code.CHANGED]
    assert bench.stored() == 1


async def test_the_gateway_answers_what_is_not_telemetry(bench: Bench) -> None:
    node = bench.node()
    get = Message(Type.CON, Code.GET, 9, b"t", ((int(Option.URI_PATH), b"time"),), b"")
    node.sends(encode(get))
    await bench.answers(node)
    (answer,) = node.hears()
    assert (answer.type, answer.code, answer.mid) == (Type.ACK, Code.CONTENT, 9)


async def test_after_its_association_has_ended_nothing_is_sent_to_a_node(bench: Bench) -> None:
    """What it sent is stored all the same."""
    node = bench.node()
    await bench.settled()
    bench.disk.free.clear()
    node.sends(bench.post(hr(72)))
    assert node.client.association is not None
    node.client.outgoing.append(node.client.association.close())
    bench.receive(*node.datagrams())
    assert bench.server.associations() == []
    before = bench.sent_datagrams
    bench.disk.free.set()
    await bench.settled()
    assert bench.sent_datagrams == before
    assert bench.stored() == 1


async def test_repetitions_are_forgotten_after_their_lifetime(bench: Bench) -> None:
    """247 s (RFC 7252 section 4.8.2): a device may use its IDs again."""
    node = bench.node()
    message = bench.post(hr(72))
    node.sends(message)
    await bench.settled()
    bench.clock.now += 248
    bench.driver.sweep(bench.clock.now)
    node.sends(message)
    await bench.settled()
    assert bench.stored() == 2


async def test_a_declared_emergency_goes_before_what_came_with_it(bench: Bench) -> None:
    """However far behind it stood in the burst."""
    node, other = bench.node(), bench.node("bracelet-2")
    burst = node.writes(*(bench.post(hr(60 + n)) for n in range(20)))
    bench.receive(*burst, *other.writes(bench.post(hr(70), path=("a",))))
    assert bench.admitted[0][1] == "bracelet-2"
    assert len(bench.admitted) == 21
    await bench.settled()


async def test_an_emergency_overtakes_what_waits_for_its_turn(bench: Bench) -> None:
    """When there is more than can be taken in at once, the sockets are read again in between."""
    node, other = bench.node(), bench.node("bracelet-2")
    bench.clock.hurry, bench.held = 1.0, []
    node.sends(*(bench.post(hr(60 + n)) for n in range(150)))
    taken = len(bench.admitted)
    assert 0 < taken < 150
    node.sends(bench.post(hr(55)))
    other.sends(bench.post(hr(70), path=("a",)))
    assert [device for _, device in bench.admitted[taken:]] == ["bracelet-2"]
    while bench.turn():
        pass
    assert {device for _, device in bench.admitted[taken + 1 :]} == {"bracelet-1"}
    assert len(bench.admitted) == 152
    await bench.settled()
    assert Counter(one.code for one in node.hears()) == {Code.CHANGED: 151}


async def test_what_is_shed_is_new_when_it_comes_again(bench: Bench) -> None:
    """And a flood does not shed the only message of another device."""
    node, other = bench.node(), bench.node("bracelet-2")
    bench.clock.hurry, bench.held = 1.0, []
    flood = [bench.post(hr(60 + n % 100)) for n in range(1200)]
    for start in range(0, 1200, 150):
        node.sends(*flood[start : start + 150])
    shed = bench.driver.counts["shed"]
    assert shed
    other.sends(bench.post(hr(70)))
    assert bench.driver.counts["shed"] == shed
    while bench.turn():
        pass
    await bench.settled()
    assert len(node.hears()) == 1200 - shed
    assert len(other.hears()) == 1
    node.sends(flood[-1])
    await bench.settled()
    assert len(node.hears()) == 1
    assert bench.driver.counts["in_progress"] == 0


async def test_addresses_are_kept_as_long_as_there_is_an_association(bench: Bench) -> None:
    node = bench.node()
    await bench.settled()
    assert list(bench.peers.names) == [node.path]
    assert list(bench.peers.paths.values()) == [node.path]
    bench.driver.sweep(bench.clock.monotonic() + 1e6)
    assert not bench.peers.names
    assert not bench.peers.paths
