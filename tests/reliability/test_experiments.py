"""Every experiment meets its target, briefly, and finds every fault that is planted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.experiments import Experiment, Run
from tests.experiments.main import load_all, ordered

if TYPE_CHECKING:
    from pathlib import Path

load_all()
_FAULTS = [(one, fault) for one in ordered() for fault in one.faults]


def _run(experiment: Experiment, runs: int, folder: Path, fault: str | None) -> list[str]:
    missing = experiment.needs()
    if missing is not None:
        pytest.skip(missing)
    run = Run(runs, folder, seed=1, fault=fault, long=False, progress=lambda done: None)
    return experiment.run(run).failures


@pytest.mark.parametrize("experiment", ordered(), ids=lambda one: f"{one.id}-{one.name}")
def test_target(experiment: Experiment, tmp_path: Path) -> None:
    assert _run(experiment, experiment.short, tmp_path, None) == []


@pytest.mark.parametrize(
    ("experiment", "fault"), _FAULTS, ids=[f"{one.id}-{fault}" for one, fault in _FAULTS]
)
def test_planted_fault_is_found(experiment: Experiment, fault: str, tmp_path: Path) -> None:
    assert _run(experiment, experiment.fault_runs, tmp_path, fault) != []


@pytest.mark.parametrize("experiment", ordered(), ids=lambda one: f"{one.id}-{one.name}")
def test_there_is_a_fault_to_find(experiment: Experiment) -> None:
    assert experiment.faults, "an experiment that never failed proves nothing"
