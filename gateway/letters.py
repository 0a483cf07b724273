"""The dead letters of a ward: asked of the gateway while it runs, else from the disk."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from gateway import control
from gateway.errors import UsageError
from gateway.outbox.letters import PAGE, shown, shown_envelopes, told
from gateway.outbox.offline import offline
from gateway.workers.place import numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_AT_ONCE: Final = 500
"""Numbers in one request: a line of the control socket holds 64 KiB."""


class Name(NamedTuple):
    """Which letter."""

    outbox: int
    number: int


class Letters(Protocol):
    """Shapes are those of :mod:`gateway.outbox.letters`. Everything raises UsageError."""

    def outboxes(self) -> list[int]: ...

    def page(self, outbox: int, after: int) -> list[dict[str, Any]]: ...

    def envelopes(self, outbox: int, epochs: Sequence[str]) -> dict[str, str]: ...

    def retry(self, outbox: int, numbers: Sequence[int]) -> int: ...

    def drop(self, outbox: int, numbers: Sequence[int]) -> int: ...


def letters(state: Path) -> Letters:
    """Those of the gateway with this state folder."""
    return _Running(state) if control.ask(state, "ping") is not None else _Stopped(state)


def every(source: Letters) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(outbox, letter)`` of all, in order, a page at a time."""
    for outbox in source.outboxes():
        after = -1
        while page := source.page(outbox, after):
            for letter in page:
                yield outbox, letter
            after = page[-1]["number"]


def portions(names: Iterable[Name]) -> Iterator[tuple[int, list[int]]]:
    """``(outbox, numbers)``, not too many at once."""
    by_outbox: dict[int, list[int]] = {}
    for outbox, number in names:
        by_outbox.setdefault(outbox, []).append(number)
    for outbox, numbers in sorted(by_outbox.items()):
        rest = iter(sorted(set(numbers)))
        while portion := list(islice(rest, _AT_ONCE)):
            yield outbox, portion


class _Running:
    def __init__(self, state: Path) -> None:
        self._state = state

    def outboxes(self) -> list[int]:
        return list(control.ask(self._state, "outboxes"))

    def page(self, outbox: int, after: int) -> list[dict[str, Any]]:
        return list(control.ask(self._state, "dead_letters", outbox=outbox, after=after))

    def envelopes(self, outbox: int, epochs: Sequence[str]) -> dict[str, str]:
        return dict(control.ask(self._state, "envelopes", outbox=outbox, epochs=list(epochs)))

    def retry(self, outbox: int, numbers: Sequence[int]) -> int:
        return int(control.ask(self._state, "retry_dead", outbox=outbox, numbers=list(numbers)))

    def drop(self, outbox: int, numbers: Sequence[int]) -> int:
        return int(control.ask(self._state, "drop_dead", outbox=outbox, numbers=list(numbers)))


class _Stopped:
    def __init__(self, state: Path) -> None:
        self._paths = numbered(state)

    def outboxes(self) -> list[int]:
        return list(self._paths)

    def page(self, outbox: int, after: int) -> list[dict[str, Any]]:
        with offline(self._path(outbox)) as store:
            return [shown(one) for one in store.dead_letters(after, PAGE)]

    def envelopes(self, outbox: int, epochs: Sequence[str]) -> dict[str, str]:
        with offline(self._path(outbox)) as store:
            return shown_envelopes(store.envelopes.get([bytes.fromhex(one) for one in epochs]))

    def retry(self, outbox: int, numbers: Sequence[int]) -> int:
        with offline(self._path(outbox)) as store:
            store.begin()
            found = store.unbury(numbers)
            store.commit()
        told("put back", outbox, numbers, len(found))
        return len(found)

    def drop(self, outbox: int, numbers: Sequence[int]) -> int:
        with offline(self._path(outbox)) as store:
            store.begin()
            dropped = store.drop_dead(numbers)
            store.commit()
        told("deleted", outbox, numbers, dropped)
        return dropped

    def _path(self, outbox: int) -> Path:
        try:
            return self._paths[outbox]
        except KeyError:
            raise UsageError(f"no outbox {outbox}; `outbox list` has them") from None
