"""The experiments behind the promises, one file each.

An experiment does something bad to the product, many times, and counts what broke. It is worth as
much as the faults that it was seen to find: each names faults that can be planted, and finds every
one of them. `scripts/test` runs them briefly, faults included (tests/reliability); `scripts/soak`
runs them long and prints a table.

A new experiment is a new file here with a ``register(Experiment(...))`` at its end. A fault in the
whole gateway is a file in ``planted/``, see there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """How an experiment is to be carried out."""

    runs: int
    """How often, in the experiment's own unit."""

    folder: Path
    """Its own, empty."""

    seed: int
    """Of all its randomness but that of the product."""

    fault: str | None
    """The planted fault, None without."""

    long: bool
    """Only a long run judges times and percentiles: a busy host must fail nothing."""

    progress: Callable[[int], None]
    """Hears how many runs are done."""


class Found(NamedTuple):
    """What came of it."""

    failures: list[str]
    """Each miss of the target in a line of words; empty: the target was met."""

    figures: dict[str, object]
    """What was counted and measured, for the table: short names, round numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One row of the table."""

    id: str
    """R: durability and delivery, L: emergencies, S: security. In README's *Promises*."""

    name: str
    """What `scripts/soak` calls it."""

    target: str
    """In words, with its numbers."""

    unit: str
    """What is counted: "cuts", "kills"."""

    short: int
    long: int
    """Runs in `scripts/test` and in `scripts/soak`."""

    run: Callable[[Run], Found]

    faults: Mapping[str, str] = field(default_factory=dict)
    """Name of a fault that can be planted -> what it is. ``run`` must find each."""

    fault_runs: int
    """So many runs are enough for every fault to be seen."""

    needs: Callable[[], str | None] = lambda: None
    """What this machine lacks for it; None: nothing."""


EXPERIMENTS: dict[str, Experiment] = {}
"""By name."""


def register(experiment: Experiment) -> None:
    """Raises ValueError for a name or an id used twice."""
    for other in EXPERIMENTS.values():
        if experiment.name == other.name or experiment.id == other.id:
            raise ValueError(f"{experiment.id} {experiment.name} is registered twice")
    EXPERIMENTS[experiment.name] = experiment
