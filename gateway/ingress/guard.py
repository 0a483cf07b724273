"""What may reach the full CoAP implementation, and what is answered or dropped before it.

That implementation (aiocoap 0.4.17) is complete but trusting: it reads malformed messages, answers
2.05 over critical options that it does not know, and none of its tables is bounded. So it sees only
what has passed here: decoded strictly, with options that are understood, at a bounded rate, with
its body complete, once, and not more of it at a time than it may have in hand.

Bounds, all for the default configuration
    Rate: 50 datagrams a second and device, 100 at once; then 4.29, at most one a second, then
    silence. Size: 1,280 bytes, 64 options. In hand: 16 requests a peer that have not been answered,
    answers queued for it included. Bodies: see :mod:`gateway.coap.blockwise`, 256 of 8 KiB, 2 MiB.
    Repetitions: :mod:`gateway.coap.exchanges` with 16,384 entries, answers of up to 1.1 KB; at most
    20 MB if every answer is a full block, 3 MB if they are acknowledgements. The implementation's
    own table of repetitions stays empty.

A refusal that follows from the bytes alone is not remembered: a repetition is refused again.
Neither is one for load, so that the same message may succeed a moment later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.coap import message as wire
from gateway.coap import options as option_codec
from gateway.coap.blockwise import MAX_BODY, Assemblies
from gateway.coap.exchanges import Exchanges, InProgress, Replay
from gateway.coap.fastlane import cut_text
from gateway.coap.message import Message
from gateway.coap.numbers import (
    ACK_TIMEOUT,
    CONTENT_FORMATS,
    EXCHANGE_LIFETIME,
    NON_LIFETIME,
    OPTIONS,
    Code,
    Option,
    Type,
    code_class,
    is_critical,
    is_request,
    is_response,
    option_name,
)
from gateway.coap.refusal import refusal
from gateway.errors import (
    BadOptionError,
    MessageFormatError,
    PeerError,
    TooLargeError,
    TooManyRequestsError,
    UnsupportedContentFormatError,
)
from gateway.ingress.rate import REFUSALS_PER_S, Rates

if TYPE_CHECKING:
    from gateway.endpoint import Endpoint

CRITICAL: Final = frozenset(
    {
        Option.URI_HOST,
        Option.URI_PORT,
        Option.URI_PATH,
        Option.URI_QUERY,
        Option.ACCEPT,
        Option.BLOCK2,
        Option.BLOCK1,
        Option.PROXY_URI,
        Option.PROXY_SCHEME,
    }
)
"""Critical options that some resource here acts on. A resource that needs another adds it."""

_IN_REQUESTS: Final = frozenset(n for n in OPTIONS if not is_critical(n)) | CRITICAL
_IN_RESPONSES: Final = frozenset(OPTIONS)

_READS: Final = (Code.GET, Code.FETCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Limits of the aiocoap lane."""

    rate_per_s: float = 50.0
    """Datagrams a second and device, twice as many at once; 0: no limit."""

    in_hand: int = 16
    """Unanswered requests a peer. RFC 7252 section 4.7 asks clients for one."""

    observations: int = 2
    """Observations a peer; one more is answered as a plain GET (RFC 7641 section 4.1)."""

    assemblies: int = 256
    """Bodies under way in all."""

    exchanges: int = 16_384
    """Messages whose repetition is recognised."""


class Behind(Protocol):
    """The implementation that is guarded."""

    def next_message_id(self) -> int:
        """A Message ID of ours, for a Non-confirmable answer."""
        ...

    def in_hand(self, endpoint: Endpoint) -> int:
        """Requests of this peer without an answer yet, and answers queued for it."""
        ...

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        """Whether a Confirmable GET with this token waits for its Acknowledgement."""
        ...


class Dispatch(NamedTuple):
    """For the implementation behind: options normalised, body complete."""

    message: Message


class Answer(NamedTuple):
    """To be sent as it is."""

    datagram: bytes
    reason: str


class Drop(NamedTuple):
    """Nothing to be sent."""

    reason: str


Verdict = Dispatch | Answer | Drop


class Guard:
    """One for all peers. Reads no clock; ``now`` never goes back."""

    def __init__(self, config: Config, behind: Behind) -> None:
        self._config = config
        self._behind = behind
        self._rates = Rates(config.rate_per_s)
        self._refusals = Rates(REFUSALS_PER_S)
        self._exchanges = Exchanges(config.exchanges)
        self._assemblies = Assemblies(config.assemblies)

    def limit(self, per_s: float) -> None:
        """Another rate for every device from now on; 0: none."""
        self._rates.per_s = per_s

    def judge(self, endpoint: Endpoint, datagram: bytes, now: float) -> Verdict:
        """What to do with one datagram of an authenticated peer, whatever its bytes."""
        if self._rates.over(endpoint.device, now):
            return self._too_fast(endpoint, datagram, now)
        mid = wire.confirmable_mid_untrusted(datagram)
        if len(datagram) > wire.MAX_DATAGRAM:
            return _too_long(datagram, mid)
        try:
            message = wire.decode_untrusted(datagram)
        except MessageFormatError as error:
            return Drop(error.kind) if mid is None else Answer(wire.reset(mid), error.kind)
        if is_request(message.code):
            return self._request(endpoint, message, datagram, now)
        if is_response(message.code):
            return _response(message)
        if message.type is Type.CON:
            return Answer(wire.reset(message.mid), "ping")
        return Dispatch(message)

    def answered(self, endpoint: Endpoint, mid: int, datagram: bytes, now: float) -> None:
        """The implementation acknowledges this message so: repetitions get the same."""
        self._exchanges.finish(endpoint.association, mid, datagram, now)

    def closed(self, endpoint: Endpoint) -> None:
        """The association has ended."""
        self._assemblies.drop(endpoint.association)

    def sweep(self, now: float) -> None:
        """Free what has expired; every few seconds."""
        self._exchanges.sweep(now)
        self._assemblies.sweep(now)

    def _too_fast(self, endpoint: Endpoint, datagram: bytes, now: float) -> Verdict:
        error = TooManyRequestsError("too many messages a second", 1.0)
        if (
            wire.confirmable_mid_untrusted(datagram) is None
            or len(datagram) > wire.MAX_DATAGRAM
            or self._refusals.over(endpoint.device, now)
        ):
            return Drop(error.kind)
        try:
            message = wire.decode_untrusted(datagram)
        except MessageFormatError:
            return Drop(error.kind)
        return self._refuse(message, error) if is_request(message.code) else Drop(error.kind)

    def _request(
        self, endpoint: Endpoint, message: Message, datagram: bytes, now: float
    ) -> Verdict:
        options, refused = option_codec.accept(message.options, _IN_REQUESTS)
        if refused is not None:
            if message.type is Type.NON:
                # Rejected in silence (RFC 7252 sections 5.4.1 and 4.3).
                return Drop(BadOptionError.kind)
            return self._refuse(
                message, BadOptionError(f"cannot act on option {option_name(refused)}")
            )
        message = message._replace(options=options)
        try:
            _check_values_untrusted(message)
        except PeerError as error:
            return self._refuse(message, error)

        association, mid = endpoint.association, message.mid
        confirmable = message.type is Type.CON
        lifetime = EXCHANGE_LIFETIME if confirmable else NON_LIFETIME
        seen = self._exchanges.begin(association, mid, hash(datagram), now, lifetime)
        if isinstance(seen, Replay):
            return Answer(seen.answer, "replayed") if seen.answer else Drop("replayed")
        if isinstance(seen, InProgress):
            return Drop("in_progress")
        if self._behind.in_hand(endpoint) >= self._config.in_hand:
            self._exchanges.forget(association, mid)
            return self._refuse(
                message, TooManyRequestsError("too many requests at once", ACK_TIMEOUT)
            )
        if message.code in _READS and self._behind.is_token_taken(endpoint, message.token):
            # RFC 7252 section 5.3.1: tokens in use are distinct. The one that waits would lose
            # its answer; this one comes again when that has been given.
            self._exchanges.forget(association, mid)
            return Drop("token_in_use")
        if message.value(Option.BLOCK1) is not None:
            verdict = self._block(endpoint, message, now)
            if isinstance(verdict, Answer):
                self._exchanges.finish(association, mid, verdict.datagram, now)
        else:
            verdict = Dispatch(message)
        if not confirmable:
            self._exchanges.finish(association, mid, b"", now)
        return verdict

    def _block(self, endpoint: Endpoint, message: Message, now: float) -> Verdict:
        try:
            body = self._assemblies.take_untrusted(endpoint.association, message, now)
        except PeerError as error:
            return self._refuse(message, error)
        if body is not None:
            return Dispatch(message._replace(payload=body))
        echo = ((int(Option.BLOCK1), message.value(Option.BLOCK1) or b""),)
        return self._answer(message, Code.CONTINUE, echo, b"", "continue")

    def _refuse(self, message: Message, error: PeerError) -> Verdict:
        code, max_age, size1, diagnostic = refusal(error)
        options = []
        block1 = message.value(Option.BLOCK1)
        if block1 is not None and len(block1) <= 3:
            options.append((int(Option.BLOCK1), block1))
        if max_age is not None:
            options.append((int(Option.MAX_AGE), option_codec.uint(max_age)))
        if size1 is not None:
            options.append((int(Option.SIZE1), option_codec.uint(size1)))
        return self._answer(message, code, tuple(options), cut_text(diagnostic), error.kind)

    def _answer(
        self,
        message: Message,
        code: int,
        options: option_codec.Options,
        payload: bytes,
        reason: str,
    ) -> Verdict:
        """Piggybacked for a Confirmable request, Non-confirmable for the other kind."""
        suppressed = (message.uint(Option.NO_RESPONSE) or 0) >> code_class(code) - 1 & 1
        if message.type is Type.CON:
            if suppressed:
                return Answer(wire.empty_ack(message.mid), reason)
            answer = Message(Type.ACK, code, message.mid, message.token, options, payload)
        elif suppressed:
            return Drop(reason)
        else:
            mid = self._behind.next_message_id()
            answer = Message(Type.NON, code, mid, message.token, options, payload)
        return Answer(wire.encode(answer), reason)


def _check_values_untrusted(request: Message) -> None:
    """What aiocoap would take without a look, or keep for ever.

    It keeps every Content-Format that it has ever seen, so only registered ones pass; no resource
    here reads or writes another.

    Raises:
        PeerError: 4.00, 4.06 or 4.15.
    """
    block2 = request.value(Option.BLOCK2)
    if block2 is not None:
        option_codec.decode_block_untrusted(block2)
    content_format = request.uint(Option.CONTENT_FORMAT)
    if content_format is not None and content_format not in CONTENT_FORMATS:
        raise UnsupportedContentFormatError(f"Content-Format {content_format} is not known here")
    accept = request.uint(Option.ACCEPT)
    if accept is not None and accept not in CONTENT_FORMATS:
        raise NotAcceptableError(f"cannot answer in Content-Format {accept}")


class NotAcceptableError(PeerError):
    """4.06."""

    kind = "not_acceptable"
    response_code = int(Code.NOT_ACCEPTABLE)


def _response(message: Message) -> Verdict:
    """An answer to a request of ours, or what pretends to be one."""
    options, refused = option_codec.accept(message.options, _IN_RESPONSES)
    if refused is not None:
        # RFC 7252 section 5.4.1: rejected.
        if message.type is Type.CON:
            return Answer(wire.reset(message.mid), BadOptionError.kind)
        return Drop(BadOptionError.kind)
    kept = tuple(
        (number, value)
        for number, value in options
        if number not in (Option.CONTENT_FORMAT, Option.ACCEPT)
        or int.from_bytes(value, "big") in CONTENT_FORMATS
    )
    return Dispatch(message._replace(options=kept))


def _too_long(datagram: bytes, mid: int | None) -> Verdict:
    """Only the header and the token are read (RFC 7959 section 2.9.3: try blocks of this size)."""
    token_length = datagram[0] & 15
    if mid is None or not is_request(datagram[1]) or token_length > wire.MAX_TOKEN:
        return Drop(TooLargeError.kind)
    options = (
        (int(Option.BLOCK1), option_codec.Block(0, more=False, exponent=6).encode()),
        (int(Option.SIZE1), option_codec.uint(MAX_BODY)),
    )
    token = datagram[4 : 4 + token_length]
    answer = Message(Type.ACK, Code.REQUEST_ENTITY_TOO_LARGE, mid, token, options)
    return Answer(wire.encode(answer), TooLargeError.kind)
