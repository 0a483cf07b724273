"""One authority for all tests of this room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certs.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

WALL = 1_793_000_000.75
"""2026-10-26."""


@pytest.fixture
def wall() -> float:
    return WALL


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="session")
def authority(folder: Path) -> Authority:
    return Authority.create(folder, "Ward 7 Äst", wall=WALL)


@pytest.fixture(scope="session")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x5EA1, ec.SECP256R1())
