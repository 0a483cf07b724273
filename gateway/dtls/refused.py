"""Handshakes that were refused, in words for whoever looks after the ward."""

from __future__ import annotations

from typing import Final, NamedTuple

DECRYPT_ERROR: Final = 51
"""The alert for an unknown identity and a wrong key alike (RFC 4279 section 2)."""

_REASONS: Final = {
    42: "certificate refused, bad_certificate",
    43: "certificate refused, unsupported_certificate",
    44: "certificate refused, certificate_revoked",
    45: "certificate refused, certificate_expired",
    46: "certificate refused, certificate_unknown",
    48: "certificate refused, unknown_ca",
    DECRYPT_ERROR: "unknown identity or wrong key",
}
"""By the alert that is sent (RFC 5246 section 7.2.2)."""

_WORDS: Final = 80
"""Characters of a reason that are kept."""


class Refused(NamedTuple):
    """Handshakes that were refused for one reason."""

    times: int
    last: str
    """Whose it was that came last, in words. A peer may have chosen some of them."""


def reason(alert: int | None, why: str) -> tuple[str, str]:
    """One of a few reasons, and what else there is to say, with a comma around it, or nothing."""
    known = _REASONS.get(alert or 0)
    return ("handshake failed", f", {why[:_WORDS]},") if known is None else (known, "")
