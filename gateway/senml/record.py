"""A resolved SenML record (RFC 8428 section 4.6): it means the same wherever it is put."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """One of ``value``, ``text``, ``boolean``, ``data`` is set, or only ``total``.

    Values and sums keep the type, int or float, that the node sent; times are floats.
    """

    name: str
    """Full name: the device's id, ``/``, the label."""

    unit: str | None
    value: int | float | None
    text: str | None
    boolean: bool | None
    data: bytes | None

    total: int | float | None
    """Integral over time, in unit times seconds (``s``)."""

    time: float
    """UTC seconds since 1970."""

    update_time: int | float | None
    """Seconds within which the node will send again (``ut``)."""
