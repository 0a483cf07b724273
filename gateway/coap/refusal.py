"""The answer that an error stands for: one translation for both lanes of ingress."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import TooLargeError

if TYPE_CHECKING:
    from gateway.errors import OutboxFull, PeerError


class Refusal(NamedTuple):
    """The keyword arguments of :func:`gateway.coap.fastlane.answer`, and its code."""

    code: int
    max_age: int | None
    size1: int | None
    diagnostic: str


def refusal(error: PeerError | OutboxFull) -> Refusal:
    """4.29 and 5.03 say when to come back (RFC 8516 section 3, RFC 7252 section 5.9.3.4), 4.13
    how much is taken (RFC 7959 section 2.9.3)."""
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    max_age = None if retry_after_s is None else max(1, math.ceil(retry_after_s))
    size1 = error.limit if isinstance(error, TooLargeError) else None
    return Refusal(error.response_code, max_age, size1, str(error))
