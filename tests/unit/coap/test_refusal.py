"""Which answer an error stands for."""

from __future__ import annotations

import pytest

from gateway.coap.refusal import Refusal, refusal
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    OutboxFull,
    PeerError,
    TooLargeError,
    TooManyRequestsError,
)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (BadRequestError("no"), Refusal(128, None, None, "no")),
        (ForbiddenError("not yours"), Refusal(131, None, None, "not yours")),
        (TooLargeError("long", 8192), Refusal(141, None, 8192, "long")),
        (TooManyRequestsError("fast", 0.2), Refusal(157, 1, None, "fast")),
        (OutboxFull("full", 12.1), Refusal(163, 13, None, "full")),
    ],
)
def test_errors_become_answers(error: PeerError | OutboxFull, answer: Refusal) -> None:
    assert refusal(error) == answer
