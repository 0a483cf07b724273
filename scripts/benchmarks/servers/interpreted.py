"""Ward Gateway as it runs without a compiler, beside a compiled one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from servers import Missing, Running, ours

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def start() -> Iterator[Running]:
    """As ``ours``."""
    python = ours.also_interpreted()
    if python is None:
        raise Missing(f"the ward-gateway that is measured is {ours.build()} itself")
    with ours.start(python) as running:
        yield running._replace(name=ours.INTERPRETED)
