"""gateway.ingress.backlog: who may wait, and who is shed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.coap.fastlane import Telemetry, claim
from gateway.dtls.association import Association, Path
from gateway.dtls.records import Opener, Protector
from gateway.ingress.backlog import Backlog

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = "PSK-AES128-CCM8"
MESSAGE = cast("Telemetry", claim(b"\x40\x02\x00\x01\xb1v\x11p\xff\x80"))


def association(number: int) -> Association:
    """One that nobody uses."""
    return Association(
        number=number,
        device=f"b-{number}",
        suite=SUITE,
        path=Path(0, ("192.0.2.1", number)),
        opener=Opener(SUITE, bytes(16), bytes(4)),
        protector=Protector(SUITE, bytes(16), bytes(4), 1),
        last_flight=[],
        now=0.0,
    )


ALL = [association(number) for number in range(6)]


def put(backlog: Backlog, numbers: Sequence[int]) -> list[bool]:
    """One message of each of these."""
    return [backlog.put(ALL[number], MESSAGE) for number in numbers]


def taken(backlog: Backlog, count: int) -> list[int]:
    """Whose messages come."""
    return [one.endpoint.association for one, _ in backlog.take(count)]


def test_in_the_order_of_arrival() -> None:
    backlog = Backlog(cap=10)
    assert all(put(backlog, [0, 1, 0, 2]))
    assert (taken(backlog, 3), len(backlog), taken(backlog, 3)) == ([0, 1, 0], 1, [2])


def test_when_full_an_associations_only_message_may_still_wait() -> None:
    """A flood of one silences nobody else."""
    backlog = Backlog(cap=3)
    assert put(backlog, [0, 0, 0, 0, 1, 1, 2]) == [True, True, True, False, True, False, True]


def test_it_is_bounded_whoever_comes() -> None:
    backlog = Backlog(cap=2)
    assert put(backlog, [0, 0, 1, 2, 3, 4]) == [True, True, True, True, False, False]


steps = st.lists(st.integers(0, 5) | st.integers(-4, -1), max_size=60)


@given(steps, st.integers(1, 4))
def test_as_a_list_would_do_it(history: list[int], cap: int) -> None:
    """Puts of an association, and takes of so many."""
    backlog, model = Backlog(cap), list[Any]()
    for step in history:
        if step < 0:
            assert taken(backlog, -step) == model[:-step]
            del model[:-step]
            continue
        kept = len(model) < cap or (step not in model and len(model) < 2 * cap)
        assert put(backlog, [step]) == [kept]
        if kept:
            model.append(step)
        assert len(backlog) == len(model)
