"""gateway.outbox.mark"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.outbox.mark import Mark

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.mark"


def test_what_was_written_last_is_read_again(path: Path) -> None:
    mark = Mark(path)
    mark.write(5, 1)
    mark.write(2**63 - 1, 2**62)
    mark.sync()
    mark.close()
    again = Mark(path)
    assert again.read() == (2**63 - 1, 2**62)
    again.close()


def test_a_new_mark_says_nothing(path: Path) -> None:
    mark = Mark(path)
    assert mark.read() is None
    mark.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_mark_says_nothing(path: Path) -> None:
    mark = Mark(path)
    mark.write(5, 1)
    mark.close()
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        damaged = data.copy()
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        mark = Mark(path)
        assert mark.read() is None, f"byte {at}"
        mark.close()
