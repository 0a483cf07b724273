"""What an HTTP answer to a batch means, as a table. Pure.

The rule: a record is given up only when the sink says that *this record* will never do. What can
be the fault of the way, of the sink's state or of our own configuration, waits.

===================  ==========================================================================
2xx                  as the body says; a body that makes no sense is the sink's fault
3xx, 404, 405, 410   the address is wrong, or not this kind of sink: wait, tell the operator
401, 403, 407, 495   our certificate is not accepted: wait, tell the operator
408, 425, 429        not now; Retry-After is kept
409                  envelopes are missing, if the body names them; else the sink's fault
413                  smaller batches
other 4xx            the batch is refused: halve it to find the record that is the cause
502, 503, 504        not now; Retry-After is kept
other 5xx            the sink's fault: if it lasts, halve the batch to find a cause
===================  ==========================================================================
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import PermanentDeliveryError, TransientDeliveryError
from gateway.sinks import (
    BatchTooLargeError,
    MissingEnvelopesError,
    NotWelcomeError,
    SinkFaultError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS_LIMIT = 300
"""Of the sink's words, what a dead letter and a status line keep."""

_NOT_WELCOME = {401, 403, 407, 495, 496}
_WRONG_ADDRESS = {404, 405, 410}
_NOT_NOW = {408, 425, 429, 502, 503, 504}


class Answer(NamedTuple):
    """One HTTP answer, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in any case: the mapping ignores case."""

    body: bytes


def refuse_untrusted(answer: Answer) -> None:
    """Raise what a status other than 2xx means. DeliveryError only."""
    status = answer.status
    said = f"{status} {words_untrusted(answer.body)}".strip()
    if 200 <= status < 300:
        return
    if status in _NOT_WELCOME:
        raise NotWelcomeError(f"this gateway is not accepted: {said}")
    if status < 400 or status in _WRONG_ADDRESS:
        raise NotWelcomeError(f"nothing takes records at this address: {said}")
    if status in _NOT_NOW:
        raise TransientDeliveryError(said, retry_after_s_untrusted(answer.headers))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise BatchTooLargeError(said)
    if status == HTTPStatus.CONFLICT:
        epochs = _missing_epochs_untrusted(answer.body)
        if epochs:
            raise MissingEnvelopesError(said, epochs)
        raise SinkFaultError(said)
    if status < 500:
        raise PermanentDeliveryError(said)
    raise SinkFaultError(said, retry_after_s_untrusted(answer.headers))


def json_untrusted(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises SinkFaultError for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SinkFaultError(f"an answer that is not JSON: {words_untrusted(body)}") from error
    if not isinstance(value, dict):
        raise SinkFaultError(f"an answer that is no JSON object: {words_untrusted(body)}")
    return value


def words_untrusted(body: bytes) -> str:
    """What the sink says, for people: its ``error`` if it is JSON, printable, bounded."""
    text = body[: 4 * _WORDS_LIMIT].decode("utf-8", "replace")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        pass
    else:
        if isinstance(value, dict) and isinstance(value.get("error"), str):
            text = value["error"]
    return "".join(c if c.isprintable() else " " for c in text)[:_WORDS_LIMIT].strip()


def retry_after_s_untrusted(headers: Mapping[str, str]) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3), seconds or a date; None if there is none.

    A date counts from the answer's own Date: the two come from one clock, ours may be wrong.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until, since = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return max((until - since).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _missing_epochs_untrusted(body: bytes) -> list[bytes]:
    names = json_untrusted(body).get("missing_epochs")
    if not isinstance(names, list):
        return []
    try:
        return [bytes.fromhex(name) for name in names]
    except (ValueError, TypeError):
        return []
