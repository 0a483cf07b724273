"""The pulse feeds the watchdog after a round trip and at no other time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.clock import SystemClock
from gateway.errors import OutboxCorrupt
from gateway.telemetry import pulse
from gateway.telemetry.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Part:
    """Something that is asked, and answers or not."""

    def __init__(self) -> None:
        self.asked = self.fed = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.broken = False
        self.says = ""
        self.pulse = Pulse(self.ask, self.feed, SystemClock())

    async def ask(self) -> str:
        self.asked += 1
        if self.broken:
            raise OutboxCorrupt("the disk has gone")
        await self.answers.wait()
        return self.says

    def feed(self) -> None:
        self.fed += 1


@pytest.fixture
async def part(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Part]:
    """Asked often, and late soon."""
    monkeypatch.setattr(pulse, "EVERY_S", 0.01)
    monkeypatch.setattr(pulse, "LATE_S", 0.05)
    made = Part()
    running = asyncio.create_task(made.pulse.run())
    yield made
    running.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(0.005)


async def test_each_answer_feeds_the_watchdog_once(part: Part) -> None:
    await _until(lambda: part.fed >= 3)
    assert part.pulse.trouble() == ""
    assert part.asked - part.fed in (0, 1)


async def test_no_answer_is_trouble_and_feeds_nobody(part: Part) -> None:
    await _until(lambda: part.fed >= 1)
    part.answers.clear()
    await _until(lambda: part.pulse.trouble() != "")
    assert "has not answered for" in part.pulse.trouble()
    asked, fed = part.asked, part.fed
    await asyncio.sleep(0.1)
    assert (part.asked, part.fed) == (asked, fed), "asked again while an answer is owed"
    part.answers.set()
    await _until(lambda: part.fed > fed and not part.pulse.trouble())


async def test_a_failure_is_trouble_in_its_own_words_until_it_is_over(part: Part) -> None:
    part.broken = True
    await _until(lambda: part.pulse.trouble() == "the disk has gone")
    fed = part.fed
    part.broken = False
    await _until(lambda: part.fed > fed)
    assert part.pulse.trouble() == ""


async def test_what_a_new_start_would_not_mend_is_trouble_and_feeds_the_watchdog(
    part: Part,
) -> None:
    part.says = "there is no room"
    await _until(lambda: part.pulse.trouble() == "there is no room")
    fed = part.fed
    await _until(lambda: part.fed > fed)
    part.says = ""
    await _until(lambda: part.pulse.trouble() == "")
