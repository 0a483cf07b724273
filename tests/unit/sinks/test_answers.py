"""gateway.sinks.answers"""

from __future__ import annotations

import json

import pytest

from gateway.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from gateway.sinks import (
    BatchTooLargeError,
    MissingEnvelopesError,
    NotWelcomeError,
    SinkFaultError,
)
from gateway.sinks.answers import (
    Answer,
    json_untrusted,
    refuse_untrusted,
    retry_after_s_untrusted,
    words_untrusted,
)

MEANINGS: list[tuple[type[DeliveryError], list[int]]] = [
    (NotWelcomeError, [301, 302, 304, 307, 308, 401, 403, 404, 405, 407, 410, 495]),
    (TransientDeliveryError, [408, 425, 429, 502, 503, 504]),
    (BatchTooLargeError, [413]),
    (SinkFaultError, [409, 500, 501, 505, 507, 599]),
    (PermanentDeliveryError, [400, 402, 406, 411, 415, 422, 451]),
]


@pytest.mark.parametrize(
    ("meaning", "status"), [(meaning, s) for meaning, all_ in MEANINGS for s in all_]
)
def test_every_status_has_a_meaning(meaning: type[DeliveryError], status: int) -> None:
    with pytest.raises(DeliveryError) as refusal:
        refuse_untrusted(Answer(status, {}, b'{"error": "the words"}'))
    assert type(refusal.value) is meaning
    assert str(status) in str(refusal.value)
    assert "the words" in str(refusal.value)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_is_no_refusal(status: int) -> None:
    refuse_untrusted(Answer(status, {}, b""))


def test_missing_envelopes_are_named() -> None:
    body = json.dumps({"error": "no", "missing_epochs": ["00" * 16, "ab" * 16]}).encode()
    with pytest.raises(MissingEnvelopesError) as refusal:
        refuse_untrusted(Answer(409, {}, body))
    assert refusal.value.epochs == (bytes(16), b"\xab" * 16)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"no json",
        b'{"missing_epochs": 5}',
        b'{"missing_epochs": [5]}',
        b'{"missing_epochs": ["zz"]}',
        b'{"missing_epochs": []}',
        b"[" * 100_000,
    ],
)
def test_a_conflict_that_names_nothing_is_the_sinks_fault(body: bytes) -> None:
    with pytest.raises(SinkFaultError):
        refuse_untrusted(Answer(409, {}, body))


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": "9" * 400}, 999_999_999.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "²"}, None),
        (
            {
                "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                "Retry-After": "Sun, 06 Nov 1994 08:50:00 GMT",
            },
            23.0,
        ),
        (
            {
                "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                "Retry-After": "Sun, 06 Nov 1994 08:49:00 GMT",
            },
            0.0,
        ),
        ({"Retry-After": "Sun, 06 Nov 1994 08:50:00 GMT"}, None),
    ],
)
def test_retry_after_in_both_forms(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_s_untrusted(headers) == wait


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b"null"])
def test_no_json_object_is_the_sinks_fault(body: bytes) -> None:
    with pytest.raises(SinkFaultError):
        json_untrusted(body)


def test_words_are_bounded_and_printable() -> None:
    assert words_untrusted(b"a\x00\x1b[31mb\n") == "a  [31mb"
    assert len(words_untrusted(b"x" * 100_000)) == 300
    assert len(words_untrusted(json.dumps({"error": "y" * 100_000}).encode())) == 300
