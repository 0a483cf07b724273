"""A flight that comes again means that the answer to it was lost (RFC 6347 section 4.2.4)."""

from __future__ import annotations

from typing import Any

from gateway.dtls.handshake import DEADLINE_S, FIRST_RETRANSMIT_S


def waiting_for_finished(world: Any) -> Any:
    """A link whose client has sent its last flight, and nobody has seen it."""
    link = world.link()
    link.to_server()
    link.to_client()
    link.to_server()
    link.to_client()
    assert link.client.outgoing
    link.client.outgoing = []
    return link


def test_a_client_answers_a_repeated_flight_at_once(world: Any) -> None:
    """It does not wait for its own timer, which by then may be long."""
    link = waiting_for_finished(world)
    link.now = 0.9
    link.server.sweep(FIRST_RETRANSMIT_S)
    assert link.server.outgoing
    link.to_client()
    assert link.client.outgoing
    link.to_server()
    assert link.association is not None


def test_a_flight_that_is_doubled_on_its_way_is_answered_once(world: Any) -> None:
    link = world.link()
    link.to_server()
    link.to_client()
    link.to_server()
    doubled = [one for one, _ in link.server.outgoing]
    link.to_client()
    answered = len(link.client.outgoing)
    for datagram in doubled:
        link.client.receive(datagram, 0.1)
    assert len(link.client.outgoing) == answered


def test_many_repetitions_fit_into_the_deadline(world: Any) -> None:
    """A hello that nobody hears is sent eight times, not five."""
    link = world.link()
    link.client.outgoing = []
    times = []
    for tick in range(int(DEADLINE_S * 10)):
        link.client.handle_timer(tick / 10)
        if link.client.outgoing:
            times.append(tick / 10)
            link.client.outgoing = []
    assert times[:3] == [1.0, 3.0, 7.0]
    assert len(times) >= 8
