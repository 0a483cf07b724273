"""How records are shown. One file a format; each registers itself under its ``--format`` name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.reader.opening import Opened


class Format(Protocol):
    """May remember what it has shown, such as its heading."""

    def lines(self, opened: Opened) -> Iterable[str]:
        """What to print for a record, without line ends; nothing if the format cannot show it."""
        ...


formats: Registry[Callable[[int], Format]] = Registry("format")
"""Each is made with the width to fit into, in characters."""
