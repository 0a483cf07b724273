"""gateway.outbox.turns"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.lane import Lane
from gateway.outbox.clerk import Change, Question, Submission
from gateway.outbox.turns import GATHER_S, TURN_ROWS, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.outbox.entry import Entry
    from tests.unit.outbox.conftest import Running

    Make = Callable[..., Entry]
    Start = Callable[..., Awaitable[Running]]


@pytest.fixture
def routine(make_entry: Make) -> Submission:
    return Submission([], [make_entry()], [], 0, None)


def commits(turns: Turns, arrivals: list[float], item: Submission) -> list[float]:
    """When transactions begin if a record comes at each of these times."""
    began: list[float] = []
    now = arrivals[0]
    coming = arrivals[::-1]
    while coming or turns:
        while coming and coming[-1] <= now:
            coming.pop()
            turns.put(Lane.ROUTINE, item)
        if turns and turns.wait_s(now) <= 0:
            turns.take(now)
            began.append(now)
        else:
            due = [now + max(turns.wait_s(now), 1e-6)] if turns else []
            now = min(coming[-1:] + due)
    return began


def test_a_trickle_shares_its_commits(routine: Submission) -> None:
    an_hour = [n / 100 for n in range(360_000)]
    began = commits(Turns(), an_hour, routine)
    assert len(began) < 1.01 * 3600 / GATHER_S
    assert began[-1] - an_hour[-1] <= GATHER_S


def test_what_comes_seldom_never_waits(routine: Submission) -> None:
    minutes = [n + at for n in range(1000) for at in (0.0, 0.01, 0.02, 0.5)]
    assert commits(Turns(), minutes, routine) == minutes


def waiting(routine: Submission) -> Turns:
    """A trickle at its 20 commits a second, at the time 0."""
    turns = Turns()
    for _ in range(1000):
        turns.put(Lane.ROUTINE, routine)
        turns.take(0.0)
    turns.put(Lane.ROUTINE, routine)
    assert turns.wait_s(0.0) == pytest.approx(GATHER_S)
    return turns


def test_a_commit_is_never_further_away_than_that_whatever_came_before(
    routine: Submission,
) -> None:
    assert waiting(routine).wait_s(GATHER_S) <= 0


def test_many_rows_do_not_wait(routine: Submission, make_entry: Make) -> None:
    turns = waiting(routine)
    for _ in range(62):
        turns.put(Lane.ROUTINE, routine)
    assert turns.wait_s(0.0) > 0
    turns.put(Lane.ROUTINE, routine)
    assert turns.wait_s(0.0) <= 0
    burst = waiting(routine)
    burst.put(Lane.ROUTINE, Submission([], [make_entry() for _ in range(63)], [], 0, None))
    assert burst.wait_s(0.0) <= 0


async def test_a_question_ends_the_wait_for_what_stands_before_it(routine: Submission) -> None:
    turns = waiting(routine)
    turns.put(Lane.ROUTINE, Change(lambda store: None))
    assert turns.wait_s(0.0) > 0
    question = Question(lambda clerk: None, asyncio.get_running_loop().create_future())
    turns.put(Lane.ROUTINE, question)
    assert turns.wait_s(0.0) <= 0
    lane, writes, questions = turns.take(0.0)
    assert (lane, len(writes), questions) == (Lane.ROUTINE, 2, [question])
    assert not turns


def test_an_emergency_goes_at_once_and_alone(routine: Submission, make_entry: Make) -> None:
    turns = waiting(routine)
    emergency = Submission([make_entry(Lane.EMERGENCY)], [], [], 0, None)
    turns.put(Lane.EMERGENCY, emergency)
    assert turns.wait_s(0.0) <= 0
    assert turns.take(0.0) == (Lane.EMERGENCY, [emergency], [])
    assert turns.wait_s(0.0) > 0, "what is gathered goes on waiting"


def test_a_turn_is_bounded(routine: Submission) -> None:
    turns = Turns()
    for _ in range(TURN_ROWS + 1):
        turns.put(Lane.ROUTINE, routine)
    assert [len(turns.take(0.0)[1]) for _ in range(2)] == [TURN_ROWS, 1]


async def test_the_writer_gathers_and_an_emergency_does_not_wait(
    start: Start, make_entry: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.turns.GATHER_S", 1e6)
    monkeypatch.setattr("gateway.outbox.turns._SAVED_S", 0.0)
    running = await start()
    running.writer.submit([make_entry()], [], "alone")
    await running.writer.flush()
    for token in ("gathered", "gathered too"):
        running.writer.submit([make_entry()], [], token)
    for _ in range(20):  # round trips, in which the thread would have got on with it
        await running.writer.flush([Lane.EMERGENCY])
    assert running.tokens == ["alone"]
    running.writer.submit([make_entry(Lane.EMERGENCY)], [], "emergency")
    await running.writer.flush([Lane.EMERGENCY])
    assert running.tokens == ["alone", "emergency"]
    await running.writer.close()
    assert running.tokens == ["alone", "emergency", "gathered", "gathered too"]
    assert running.commits == [1, 1, 2]


async def test_the_wait_ends_by_itself(
    start: Start, make_entry: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.turns._SAVED_S", 0.0)
    running = await start()
    running.writer.submit([make_entry()], [], "alone")
    await running.writer.flush()
    running.writer.submit([make_entry()], [], "later")
    async with asyncio.timeout(10):
        while running.tokens != ["alone", "later"]:
            await running.writer.woken(Lane.ROUTINE).wait()
            running.writer.woken(Lane.ROUTINE).clear()
