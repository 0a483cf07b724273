"""How long to wait before the next try: full jitter, capped, the sink's own wish first. Pure.

Full jitter (a uniform draw from zero to the exponential step) spreads a ward's gateways best when
a cloud comes back; a wait without it makes them come back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.errors import DeliveryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Of one lane. Retries never end: a cloud may be away for any time."""

    base_s: float
    """Upper end of the first wait; doubles with each failure in a row."""

    cap_s: float
    """Upper end of every wait."""

    retry_after_cap_s: float
    """The longest wait that a sink can ask for."""


def wait_s(
    policy: Policy,
    failures: int,
    *,
    retry_after_s: float | None,
    random: Callable[[int], bytes],
) -> float:
    """Seconds to wait after the n-th failure in a row (1 is the first).

    A sink's own wish is kept, plus up to half a second, so that not all come at once.
    """
    share = int.from_bytes(random(4), "big") / 2**32
    if retry_after_s is not None:
        return min(max(retry_after_s, 0.0), policy.retry_after_cap_s) + share / 2
    # The exponent is bounded: a float overflows after a thousand failures.
    step = policy.base_s * 2.0 ** min(failures - 1, 32)
    return share * min(step, policy.cap_s)


def wished_s(error: DeliveryError) -> float | None:
    """How long the sink itself asks to wait; None if it does not say."""
    return error.retry_after_s if isinstance(error, TransientDeliveryError) else None
