"""What two workers say to each other."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import errors
from gateway.coap.fastlane import Kind
from gateway.coap.numbers import ContentFormat
from gateway.coap.refusal import refusal
from gateway.endpoint import Endpoint
from gateway.intake import Offer, Repeated
from gateway.workers import wire
from gateway.workers.wire import Asked, Told

OFFERS = [
    Offer(Endpoint(2**50, "bracelet-1"), kind, ContentFormat.SENML_CBOR, bytes([number]) * 9)
    for number, kind in enumerate(Kind)
]


def _kinds(base: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    found = [one for one in base.__subclasses__() if one.__module__ == errors.__name__]
    return [*found, *(deeper for one in found for deeper in _kinds(one))]


def _of(kind: Any) -> errors.GatewayError:
    made: errors.GatewayError
    try:
        made = kind("words for the node")
    except TypeError:
        made = kind("words for the node", 7)
    return made


def _heard(frame: bytes) -> Any:
    buffer = bytearray(frame)
    (found,) = wire.frames(buffer)
    assert not buffer
    return found


def test_offers_arrive_as_they_were() -> None:
    asked = _heard(wire.ask(3, 12.5, 1_800_000_000.25, OFFERS))
    assert asked == Asked(3, 12.5, 1_800_000_000.25, OFFERS)
    assert [one.kind for one in asked.offers] == list(Kind)


@pytest.mark.parametrize("stored", [True, False])
def test_what_is_stored_or_not_yet_arrives(stored: bool) -> None:
    told = Told(9, 4, Repeated(stored))
    assert _heard(wire.tell([told])) == [told]


@pytest.mark.parametrize("kind", [*_kinds(errors.PeerError), errors.OutboxFull, errors.SealError])
def test_every_refusal_arrives_with_the_same_answer(kind: type[errors.GatewayError]) -> None:
    """What a home may say of an offer. A DTLS error is none: the offer has passed that."""
    error = _of(kind)
    if isinstance(error, errors.DtlsError):
        assert wire.as_result(error) is None
        return
    assert wire.as_result(error) is error
    ((number, place, heard),) = _heard(wire.tell([Told(1, 2, error)]))
    assert (number, place, type(heard), str(heard)) == (1, 2, kind, str(error))
    if isinstance(error, (errors.PeerError, errors.OutboxFull)):
        assert refusal(heard) == refusal(error)


def test_a_bug_is_not_told_as_a_refusal() -> None:
    assert wire.as_result(RuntimeError("planted")) is None


def test_frames_come_in_pieces() -> None:
    """A stream knows nothing of frames."""
    frames = [wire.ask(1, 1.0, 2.0, OFFERS), wire.tell([Told(1, 0, Repeated(stored=True))])]
    stream, buffer, found = b"".join(frames), bytearray(), []
    for byte in stream:
        buffer.append(byte)
        found += wire.frames(buffer)
    assert [type(one) for one in found] == [Asked, list]
    assert not buffer
    assert len(wire.frames(bytearray(stream * 3 + stream[:5]))) == 6


@pytest.mark.parametrize(
    "frame",
    [
        (wire.LONGEST + 1).to_bytes(4, "little"),
        b"\x01\x00\x00\x00N",
        b"\x01\x00\x00\x00\xff",
        b"\x00\x00\x00\x00",
    ],
    ids=["too long", "None", "no marshal", "nothing"],
)
def test_what_no_worker_says_is_an_error(frame: bytes) -> None:
    with pytest.raises((ValueError, TypeError, EOFError)):
        wire.frames(bytearray(frame))
