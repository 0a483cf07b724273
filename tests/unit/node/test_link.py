"""When a node repeats itself."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from gateway.coap.numbers import MAX_TRANSMIT_WAIT, Code
from gateway.node.link import DEFAULT, URGENT, Link, LinkError, Transmission
from tests.experiments.rigs.radio import Profile, Relay
from tests.experiments.rigs.virtual import KEY, Inside, play

if TYPE_CHECKING:
    from pathlib import Path


async def _sendings(inside: Inside, how: Transmission) -> list[float]:
    """When a request is sent that nobody answers, and when it is given up, from its beginning."""
    radio = Profile(outage_at=5.0, outage_s=1000.0)
    relay = await Relay.open(("127.0.0.1", 0), ("127.0.0.1", inside.port), radio, 1)
    loop = asyncio.get_running_loop()
    link = await Link.open("127.0.0.1", relay.port, identity="d0", key=KEY, transmission=how)
    await asyncio.sleep(10)
    began, before = loop.time(), len(relay.arrivals)
    with pytest.raises(LinkError, match="no answer"):
        await link.request(Code.GET, ("time",))
    times = [when - began for when in (*relay.arrivals[before:], loop.time())]
    link.close()
    relay.close()
    return times


@pytest.mark.parametrize("how", [DEFAULT, Transmission(ack_timeout_s=5.0, max_retransmit=1)])
def test_the_timers_of_rfc_7252_section_4_2(tmp_path: Path, how: Transmission) -> None:
    """From ACK_TIMEOUT to 1.5 times that at first, then doubled each time."""
    sent, _ = play(tmp_path, 1, lambda inside: _sendings(inside, how))
    waits = [after - before for before, after in pairwise(sent)]
    assert len(waits) == how.max_retransmit + 1
    assert how.ack_timeout_s <= waits[0] <= 1.5 * how.ack_timeout_s + 0.01
    for before, after in pairwise(waits):
        assert after == pytest.approx(2 * before, abs=0.02)
    assert sent[-1] <= how.max_transmit_wait_s()


def test_an_urgent_message_has_one_copy_more(tmp_path: Path) -> None:
    """After 250 ms; the timers go on from the first."""
    sent, _ = play(tmp_path, 1, lambda inside: _sendings(inside, URGENT))
    assert sent[1] == pytest.approx(0.25, abs=0.01)
    assert 1.0 <= sent[2] <= 1.51
    assert sent[3] == pytest.approx(3 * sent[2], abs=0.03)
    assert len(sent) == 1 + 1 + 4 + 1


def test_the_defaults_are_those_of_rfc_7252() -> None:
    assert DEFAULT.max_transmit_wait_s() == MAX_TRANSMIT_WAIT == 93.0
