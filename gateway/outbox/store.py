"""The only SQL: entries, envelopes, dead letters, alarms in one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Store:
    """One connection to the outbox's file. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OutboxError: another process has it open, or it cannot be made.
        """
