"""Planting a fault in this process: one name of the product means something else for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def instead(owner: object, name: str, planted: object) -> Iterator[None]:
    """``owner.name`` is ``planted`` within the block."""
    healthy = getattr(owner, name)
    setattr(owner, name, planted)
    try:
        yield
    finally:
        setattr(owner, name, healthy)
