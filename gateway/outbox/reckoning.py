"""How many entries are gone, from three who know: the rows, the ledger, the mark. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Reckoning(NamedTuple):
    """What to go on with, and how many entries that were promised are not there."""

    last_number: int
    removed: int
    missing: int


def reckon(
    rows: int, highest: int, ledger: tuple[int, int], mark: tuple[int, int] | None
) -> Reckoning:
    """``rows``: how many there are, up to the number ``highest``. ``ledger``, ``mark``: last number
    and how many are removed; the mark is None if there is none or it is damaged."""
    last, removed = ledger
    missing = last - removed - rows
    if mark is not None and missing and mark[0] - mark[1] == rows and highest <= mark[0]:
        # Two of three agree. SQLite has no checksum, so a bit of the ledger may have flipped.
        return Reckoning(*mark, 0)
    removed += missing
    if mark is not None and mark[0] > last:
        # Whole transactions vanished. Some of their rows may have been settled already, so this is
        # the most that can be missing.
        behind = mark[0] - last
        missing += min(behind, mark[0] - mark[1])
        last, removed = mark[0], removed + behind
    return Reckoning(last, removed, max(missing, 0))
