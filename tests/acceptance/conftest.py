"""Wards of real processes, as fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.ward import a_ward

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.ward import Ward


@pytest.fixture
def new_ward(tmp_path: Path) -> Iterator[Ward]:
    """Not even initialised."""
    with a_ward(tmp_path) as made:
        yield made


@pytest.fixture
def ward(new_ward: Ward) -> Ward:
    """Initialised, nothing runs."""
    new_ward.make()
    return new_ward


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """One that runs and has a device, for tests that look at the newest messages only."""
    with a_ward(tmp_path_factory.mktemp("running")) as made:
        made.make()
        made.device = made.enter("bracelet-1")
        made.start()
        yield made
        made.assert_no_bugs()
