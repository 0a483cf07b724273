"""What each error is in HTTP."""

from __future__ import annotations

import json

import pytest

from cloud.answers import refusal
from cloud.auth import UnknownPeerError
from cloud.listeners import TooManyListeners
from cloud.requests import MediaTypeError, SlowBodyError
from cloud.store import StoreBusy, StoreError, StoreFull
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    GatewayError,
    IntegrityError,
    TooLargeError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownPeerError("no"), 401),
        (ForbiddenError("no"), 403),
        (IntegrityError("no"), 403),
        (SlowBodyError("no"), 408),
        (TooLargeError("no", 5), 413),
        (MediaTypeError("no"), 415),
        (BadRequestError("no"), 400),
    ],
)
def test_what_the_caller_did_wrong(error: GatewayError, status: int) -> None:
    """The words are the error's own."""
    response = refusal(error)
    assert response.status == status
    assert json.loads(response.text or "") == {"error": "no"}
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("kind", [StoreBusy, StoreFull, StoreError, TooManyListeners])
def test_what_may_be_better_later(kind: type[GatewayError]) -> None:
    """503 and when: no gateway takes it for a fault of its records."""
    response = refusal(kind("no"))
    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0


def test_what_has_no_answer_is_a_bug() -> None:
    """It goes on to where bugs are logged."""
    with pytest.raises(UsageError):
        refusal(UsageError("no"))
