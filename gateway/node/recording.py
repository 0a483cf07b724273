"""Recorded heartbeats that come with the program (see recordings/README.md for their origin)."""

from __future__ import annotations

import csv
import gzip
import io
from importlib import resources
from typing import NamedTuple


class Beat(NamedTuple):
    """One heartbeat."""

    time: float
    """Seconds from the start of the recording."""
    rr: float | None
    """Seconds since the beat before; None for the first."""
    label: str
    """WFDB beat code."""


class Recording(NamedTuple):
    """A few minutes of one heart."""

    name: str
    beats: tuple[Beat, ...]

    @property
    def duration(self) -> float:
        """Seconds until the last beat."""
        return self.beats[-1].time


def load_all() -> list[Recording]:
    """By name."""
    folder = resources.files("gateway.node").joinpath("recordings")
    files = [one for one in folder.iterdir() if one.name.endswith(".beats.csv.gz")]
    return [
        Recording(one.name.removesuffix(".beats.csv.gz"), _read(one.read_bytes()))
        for one in sorted(files, key=lambda one: one.name)
    ]


def _read(data: bytes) -> tuple[Beat, ...]:
    rows = csv.DictReader(io.StringIO(gzip.decompress(data).decode()))
    return tuple(
        Beat(float(row["t_s"]), float(row["rr_s"]) if row["rr_s"] else None, row["ann"])
        for row in rows
    )
