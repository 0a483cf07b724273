"""The outbox's part of the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How much may wait on the disk for the cloud store."""

    max_bytes: int = 1 << 30
    """Everything the outbox may hold. Keep it well under the size of its partition."""

    reserve_bytes: int = 64 << 20
    """The part of max_bytes that only emergencies may use."""

    def __post_init__(self) -> None:
        if self.reserve_bytes >= self.max_bytes:
            raise ValueError("reserve_bytes must be below max_bytes: routine data needs room too")
