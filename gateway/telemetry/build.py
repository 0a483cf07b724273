"""How this installation was built."""

from __future__ import annotations

from gateway import intake


def build() -> str:
    """``compiled`` when the hot path came as extension modules (setup.py), else ``interpreted``."""
    return "interpreted" if intake.__file__.endswith(".py") else "compiled"
