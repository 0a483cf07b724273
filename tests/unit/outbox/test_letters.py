"""gateway.outbox.letters: what the control socket may be asked"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import UsageError
from gateway.lane import Lane
from gateway.outbox.letters import Letters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.outbox.entry import Entry
    from tests.unit.outbox.conftest import Running

    Start = Callable[..., Awaitable[Running]]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("dead_letters", {"after": [1]}),
        ("dead_letters", {"after": 1 << 70}),
        ("dead_letters", {"after": None}),
        ("envelopes", {"epochs": ["zz"]}),
        ("envelopes", {"epochs": [[1]]}),
        ("envelopes", {"epochs": 7}),
        ("retry_dead", {"numbers": [[1]]}),
        ("retry_dead", {"numbers": 7}),
        ("retry_dead", {"numbers": [1 << 70]}),
        ("drop_dead", {"numbers": ["1"]}),
        ("drop_dead", {"numbers": None}),
    ],
)
async def test_a_question_that_makes_no_sense_does_not_reach_the_disk(
    start: Start, make_entry: Callable[..., Entry], command: str, arguments: dict[str, Any]
) -> None:
    running = await start()
    writer = running.writer
    letters = Letters(lambda: {0: writer})
    writer.submit([make_entry()], [], 1)
    [one] = await writer.lease(Lane.ROUTINE, 1, 1000, now=0.0)
    writer.settle(Lane.ROUTINE, dead=[(one.number, "no")])
    with pytest.raises(UsageError):
        await letters.commands()[command](outbox=0, **arguments)
    with pytest.raises(UsageError, match="no outbox"):
        await letters.drop([0], [1])  # type: ignore[arg-type]
    assert [letter["number"] for letter in await letters.dead_letters(0, 0)] == [one.number]
    assert running.failures == []
