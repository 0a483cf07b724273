"""gateway.ingress.backlog: who may wait, and who is shed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

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


def test_associations_take_turns_and_each_has_its_oldest_first() -> None:
    """Whose flood it is, waits for itself."""
    backlog = Backlog(cap=10)
    messages = [MESSAGE._replace(mid=mid) for mid in range(5)]
    for number, message in zip([0, 0, 0, 1, 2], messages, strict=True):
        assert backlog.put(ALL[number], message)
    found = [(one.endpoint.association, message.mid) for one, message in backlog.take(2)]
    found += [(one.endpoint.association, message.mid) for one, message in backlog.take(9)]
    assert found == [(0, 0), (1, 3), (2, 4), (0, 1), (0, 2)]
    assert not backlog


def test_when_full_who_has_not_its_share_may_still_wait() -> None:
    """A flood of one silences nobody else, nor the second pack of another."""
    backlog = Backlog(cap=4)
    assert put(backlog, [0, 0, 0, 0, 0]) == [True, True, True, True, False]
    assert put(backlog, [1, 1, 1]) == [True, True, False]
    assert put(backlog, [0]) == [False]


def test_it_is_bounded_whoever_comes() -> None:
    backlog = Backlog(cap=2)
    assert put(backlog, [0, 0, 1, 2, 3, 4]) == [True, True, True, True, False, False]


steps = st.lists(st.integers(0, 5) | st.integers(-4, -1), max_size=60)


@given(steps, st.integers(1, 6))
def test_as_lists_would_do_it(history: list[int], cap: int) -> None:
    """Puts of an association, and takes of so many."""
    backlog, model = Backlog(cap), list[list[int]]()
    for step in history:
        size = sum(map(len, model))
        if step < 0:
            expected = []
            for _ in range(min(-step, size)):
                first = model.pop(0)
                expected.append(first.pop())
                if first:
                    model.append(first)
            assert taken(backlog, -step) == expected
            continue
        mine = next((one for one in model if one[0] == step), [])
        has_room = size < cap or (size < 2 * cap and len(mine) < max(cap // max(len(model), 1), 1))
        if size >= cap and not mine and size < 2 * cap:
            has_room = True
        assert put(backlog, [step]) == [has_room]
        if has_room and mine:
            mine.append(step)
        elif has_room:
            model.append([step])
        assert len(backlog) == sum(map(len, model))
