"""What two workers say to each other. Pure: bytes and objects.

A frame is four bytes of length and a ``marshal`` value, the fastest that Python has. It is not for
a stranger's bytes: here it runs between two processes of one program over a socket that has no
name, and a peer of the network only ever fills byte strings and texts inside it.

``(ASK, number, now, wall, offers)``: judge and store these; ``(TOLD, results)``: what became of
them, each as ``(number of the question, place in it, result)``. A question may be answered in
parts.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway import errors
from gateway.coap.fastlane import Kind
from gateway.endpoint import Endpoint
from gateway.intake import Offer, Repeated

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD: Final = 4
LONGEST: Final = 4 << 20
"""Bytes of a frame. A longer one cannot be: the link is broken."""

_MARSHAL: Final = 4
_ASK: Final = 0
_TOLD: Final = 1

_REFUSALS: Final[dict[str, type[errors.GatewayError]]] = {
    one.kind: one
    for one in (
        errors.MessageFormatError,
        errors.BadRequestError,
        errors.BadOptionError,
        errors.ForbiddenError,
        errors.IncompleteError,
        errors.TooLargeError,
        errors.UnsupportedContentFormatError,
        errors.TooManyRequestsError,
        errors.IntegrityError,
        errors.OutboxFull,
        errors.SealError,
    )
}
"""What an offer may be refused with, by its stable name."""

Result = Repeated | errors.GatewayError
"""``Repeated(True)``: it is on disk. ``Repeated(False)``: not yet, ask again; also after a bug,
which the home has logged."""


class Asked(NamedTuple):
    """A question that has come in."""

    number: int
    now: float
    wall: float
    """When their datagrams came: monotonic seconds, which all processes of a machine share, and
    UTC. Both, or an offer that waited on its way would look like a clock that was set back."""
    offers: list[Offer]


class Told(NamedTuple):
    """One answer that has come in."""

    number: int
    place: int
    result: Result


def ask(number: int, now: float, wall: float, offers: Sequence[Offer]) -> bytes:
    """A frame with offers, see :class:`Asked`."""
    return _frame(
        (
            _ASK,
            number,
            now,
            wall,
            [
                (
                    one.endpoint.association,
                    one.endpoint.device,
                    one.kind.value,
                    int(one.content_format),
                    one.payload,
                )
                for one in offers
            ],
        )
    )


def tell(results: Sequence[Told]) -> bytes:
    """A frame with what became of offers."""
    return _frame((_TOLD, [(number, place, _written(result)) for number, place, result in results]))


def frames(buffer: bytearray) -> list[Asked | list[Told]]:
    """Every whole frame at the beginning of ``buffer``, which loses them.

    Raises ValueError, TypeError, KeyError or EOFError for what no worker says.
    """
    found = []
    at = 0
    while len(buffer) - at >= HEAD:
        size = int.from_bytes(buffer[at : at + HEAD], "little")
        if size > LONGEST:
            raise ValueError(f"a frame of {size} bytes")
        if len(buffer) - at - HEAD < size:
            break
        at += HEAD
        found.append(_read(marshal.loads(buffer[at : at + size])))
        at += size
    del buffer[:at]
    return found


def _frame(value: tuple[Any, ...]) -> bytes:
    body = marshal.dumps(value, _MARSHAL)
    return len(body).to_bytes(HEAD, "little") + body


def _read(value: Any) -> Asked | list[Told]:  # noqa: ANN401 -- checked by taking it apart
    what, *rest = value
    if what == _TOLD:
        (results,) = rest
        return [Told(number, place, _result(one)) for number, place, one in results]
    number, now, wall, offers = rest
    return Asked(
        number,
        now,
        wall,
        [
            Offer(Endpoint(association, device), Kind(kind), content_format, payload)
            for association, device, kind, content_format, payload in offers
        ],
    )


def _written(result: Result) -> bool | tuple[str, str, float | None]:
    if isinstance(result, Repeated):
        return result.stored
    detail: float | None = getattr(result, "retry_after_s", getattr(result, "limit", None))
    return result.kind, str(result), detail


def _result(written: Any) -> Result:  # noqa: ANN401
    if isinstance(written, bool):
        return Repeated(written)
    kind, text, detail = written
    refusal = _REFUSALS[kind]
    return refusal(text) if detail is None else refusal(text, detail)


def as_result(outcome: Repeated | Exception) -> Result | None:
    """What is told of an outcome; None for a bug."""
    if isinstance(outcome, Repeated):
        return outcome
    if isinstance(outcome, errors.GatewayError) and outcome.kind in _REFUSALS:
        return outcome
    return None
