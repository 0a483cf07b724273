"""Which worker is which, which of them is a patient's home, and what one of them may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from gateway import control
from gateway.outbox.config import Config

if TYPE_CHECKING:
    from pathlib import Path

_OUTBOX: Final = re.compile(r"outbox-([0-9]{1,3})\.(?:db|damaged)")
"""Of all workers but the first. A damaged one may be nothing but its note for a moment."""

_UNEVEN: Final = 1.25
"""How far a worker's share of associations is above its part: the kernel spreads by address."""


def home(pseudonym: bytes, count: int) -> int:
    """The worker that a patient lives in, of ``count``. The same after a restart."""
    return crc32(pseudonym) % count


def outbox_path(state: Path, number: int) -> Path:
    """A worker's outbox: the first one's is that of a gateway without workers."""
    return state / (f"outbox-{number}.db" if number else "outbox.db")


def numbered(state: Path) -> dict[int, Path]:
    """Every outbox in the folder by its worker's number, also of workers that are no more."""
    numbers = {int(match[1]) for one in state.iterdir() if (match := _OUTBOX.fullmatch(one.name))}
    first = outbox_path(state, 0)
    if first.exists() or first.with_suffix(".damaged").exists():
        numbers.add(0)
    return {number: outbox_path(state, number) for number in sorted(numbers)}


def outboxes(state: Path) -> list[Path]:
    """Their files."""
    return list(numbered(state).values())


@dataclass(frozen=True, slots=True)
class Place:
    """One worker among the others."""

    number: int
    """From 0."""
    count: int
    """Of all workers."""

    @property
    def control(self) -> str:
        """The name of its control socket: people's own, or one at which the supervisor asks."""
        return control.NAME if self.count == 1 else f"control-{self.number}.sock"

    def outbox(self, whole: Config) -> Config:
        """Its part of what the gateway's outbox may hold; the first one has what is left over."""
        return Config(
            max_bytes=self._part(whole.max_bytes), reserve_bytes=self._part(whole.reserve_bytes)
        )

    def associations(self, whole: int) -> int:
        """How many it may hold of the gateway's."""
        return whole if self.count == 1 else -int(-whole * _UNEVEN // self.count)

    def _part(self, whole: int) -> int:
        part, rest = divmod(whole, self.count)
        return part + (rest if self.number == 0 else 0)


ALONE: Final = Place(0, 1)
"""A gateway without workers."""
