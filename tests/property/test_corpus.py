"""Every seed of the fuzzing and every input that it once found, through its target."""

from __future__ import annotations

import pytest

from tests.experiments.rigs.fuzz_targets import CORPUS, TARGETS

_KEPT = [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for data in TARGETS[name].seeds:
        TARGETS[name].feed(data)


@pytest.mark.parametrize(("name", "path"), _KEPT, ids=[path.name for _, path in _KEPT])
def test_what_was_found_once(name: str, path: object) -> None:
    TARGETS[name].feed(path.read_bytes())  # type: ignore[attr-defined]
