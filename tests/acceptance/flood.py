"""Floods of bracelets with a journal; what was acknowledged compared with what is read."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.acceptance.ward import WITHIN_S, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gateway.reader.opening import Opened
    from tests.acceptance.ward import Ward

Key = tuple[str, int, int]
"""A pack: device, boot, seq."""


class Difference(NamedTuple):
    """Between what was acknowledged and what was read. Both empty: the promise was kept."""

    missing: list[Key]
    """Acknowledged and not read."""
    doubled: list[Key]
    """Read more than once."""


def compare(acknowledged: Iterable[Key], read: Iterable[Key]) -> Difference:
    """A pack may be read that was not acknowledged (its answer was lost), but never twice."""
    times = Counter(read)
    return Difference(
        missing=sorted(set(acknowledged) - times.keys()),
        doubled=sorted(key for key, count in times.items() if count > 1),
    )


class Flood:
    """``simulate`` in the background, with its journal of what was acknowledged."""

    def __init__(self, ward: Ward, folder: Path, *, nodes: int, speed: int, seconds: float) -> None:
        self.journal = folder / "journal.jsonl"
        self._process = ward.spawn(
            *("simulate", "--config", str(ward.config), "simulate", "--gateway", ward.uri),
            *("--nodes", str(nodes), "--speed", str(speed), "--for", str(seconds)),
            *("--journal", str(self.journal), "--json"),
        )

    def count(self) -> int:
        """Acknowledged so far."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def reached(self, count: int) -> None:
        """Wait until so many are acknowledged."""
        until(lambda: self.count() >= count)

    def runs(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> dict[str, Any]:
        """Ctrl-C: what `simulate` says of itself. Packs under way then are not acknowledged."""
        self._process.send_signal(signal.SIGINT)
        out, _ = self._process.communicate(timeout=WITHIN_S)
        summary: dict[str, Any] = json.loads(out)
        assert summary["acknowledged"] == self.count()
        return summary

    def acknowledged(self) -> list[Key]:
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [(line["device"], line["boot"], line["seq"]) for line in lines]


def _keys(records: Iterable[Opened]) -> Iterator[Key]:
    for record in records:
        values = {one.name.rpartition("/")[2]: one.value for one in record.records or ()}
        if values.get("seq") is not None:
            yield record.device, int(values["boot"] or 0), int(values["seq"] or 0)


def read_by_all(ward: Ward) -> list[Key]:
    """What the two recipients who share the lanes read together."""
    ward.delivered()
    return [*_keys(ward.opened("doctor")), *_keys(ward.opened("alarm-centre"))]
