"""aiocoap without a socket: the lane for everything that the fast lane does not claim.

The only file that touches aiocoap's private parts, hence the exact pin of its version. Datagrams
come in as plaintexts of DTLS associations and leave the same way; a peer is its association.

Four things are taken from aiocoap's hands. Repetitions: its table has no cap and answers a new
message under an old Message ID with the old answer, so the guard has ours. Blocks: see
:mod:`gateway.ingress.resources`. No-Response: its own code for that uses its deprecated API.
Tokens: it takes a second request with the token of an unanswered one for the end of interest in
that, and cancels it, before it is stored perhaps; but a node that sends Non-confirmable posts and
reads no answers has no reason to vary its token. So a write gets a token of its own inside. A read
keeps its token, which is what names an observation.

What aiocoap keeps for a peer is bounded by what the guard lets through: the requests in hand, the
queue of answers that wait for an Acknowledgement (both count against ``Config.in_hand``) and the
observations. All of it goes when the association ends.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import aiocoap
from aiocoap import interfaces
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.constants import TransportTuning
from aiocoap.protocol import Context
from aiocoap.tokenmanager import TokenManager

from gateway.coap import message as wire
from gateway.coap.numbers import Code
from gateway.ingress import resources
from gateway.ingress.guard import Answer, Config, Dispatch, Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from gateway.clock import Clock
    from gateway.coap.message import Message
    from gateway.endpoint import Endpoint
    from gateway.ingress.resources import Intake, Resource

_log = logging.getLogger("ingress.aiocoap")


class AssociationClosedError(aiocoap.error.NetworkError):  # type: ignore[misc]
    """What requests of ours to a peer end with when its association does."""


class _Tuning(TransportTuning):  # type: ignore[misc]
    EMPTY_ACK_DELAY: Final = 0.5
    """Seconds. A commit on a slow card may take more than aiocoap's 0.1; a client first repeats
    after 2 (RFC 7252 section 5.2.2 leaves the choice)."""


_TUNING: Final = _Tuning()

_READS: Final = (Code.GET, Code.FETCH)

_INNER_TOKEN: Final = wire.MAX_TOKEN + 1
"""Bytes of a write's token inside: no token on the wire is as long."""


class _Remote(interfaces.EndpointAddress):  # type: ignore[misc]
    """A peer. Equal exactly if the association is the same (RFC 7252 section 9.1.2)."""

    scheme = "coaps"
    is_multicast = False
    is_multicast_locally = False
    hostinfo_local = "ward-gateway"
    uri_base_local = "coaps://ward-gateway"
    maximum_block_size_exp = resources.BLOCK_EXPONENT

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remote) and (
            self.endpoint.association == other.endpoint.association
        )

    def __hash__(self) -> int:
        return hash(self.endpoint.association)

    @property
    def hostinfo(self) -> str:
        return self.endpoint.device

    @property
    def uri_base(self) -> str:
        return f"coaps://{self.endpoint.device}"

    @property
    def blockwise_key(self) -> int:
        return self.endpoint.association

    @property
    def authenticated_claims(self) -> tuple[str]:
        return (self.endpoint.device,)


class _Messages(MessageManager):  # type: ignore[misc]
    """aiocoap's message layer less repetitions and No-Response, and the guard's view of it."""

    def __init__(self, tokens: TokenManager, mint: Callable[[], int]) -> None:
        super().__init__(tokens)
        self._mint = mint

    def _deduplicate_message(self, message: Any) -> bool:  # noqa: ANN401
        """No: what comes here has passed the guard's table of exchanges."""
        return False

    def send_message(self, message: Any, messageerror_monitor: Any) -> Any:  # noqa: ANN401
        """Suppress what the request asked not to get (RFC 7967), whoever made the answer."""
        request = message.request
        if request is not None and message.code.is_response():
            wish = request.opt.no_response or 0
            message.opt.no_response = None
            if wish >> message.code.class_ - 1 & 1:
                waiting = self._piggyback_opportunities.pop((message.remote, message.token), None)
                if waiting is not None:
                    mid, timer = waiting
                    timer.cancel()
                    self._send_empty_ack(message.remote, mid, reason="No-Response")
                return None
        return super().send_message(message, messageerror_monitor)

    def _next_message_id(self) -> int:
        return self._mint()

    def queued(self, remote: _Remote) -> int:
        """Answers that wait until the one before them is acknowledged."""
        return len(self._backlogs.get(remote, ()))

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        return (_Remote(endpoint), token) in self._piggyback_opportunities


class _Rendering:
    """A coroutine that is made when it is first awaited: aiocoap may cancel its task before."""

    def __init__(self, site: resources.Site, pipe: Any) -> None:  # noqa: ANN401
        self._site, self._pipe = site, pipe

    def __await__(self) -> Generator[Any, None, None]:
        return self._site.render_to_pipe(self._pipe).__await__()


class _Context(Context):  # type: ignore[misc]
    """Counts what is being rendered for each association."""

    def __init__(self, *, site: resources.Site, observations: int) -> None:
        super().__init__(
            loop=asyncio.get_running_loop(), serversite=site, loggername="ingress.aiocoap"
        )
        self._site = site
        self._observations = observations
        self.rendering: Counter[int] = Counter()
        self.observing: Counter[int] = Counter()

    def render_to_pipe(self, pipe: Any) -> None:  # noqa: ANN401
        """Called by aiocoap for each request, before its task is made."""
        request = pipe.request
        association = request.remote.endpoint.association
        counter = self.rendering
        if request.opt.observe == 0:
            if self.observing[association] < self._observations:
                counter = self.observing
            else:
                request.opt.observe = None
        counter[association] += 1

        def ended() -> None:
            counter[association] -= 1
            if not counter[association]:
                del counter[association]

        pipe.on_interest_end(ended)
        super().render_to_pipe(pipe)

    def _render_to_pipe(self, pipe: Any) -> _Rendering:  # noqa: ANN401
        return _Rendering(self._site, pipe)


class _Transport(interfaces.MessageInterface):  # type: ignore[misc]
    """Where aiocoap's datagrams go."""

    def __init__(self, deliver: Callable[[Endpoint, Any], None]) -> None:
        self._deliver = deliver

    def send(self, message: Any) -> None:  # noqa: ANN401
        self._deliver(message.remote.endpoint, message)

    async def shutdown(self) -> None:
        """Nothing to close: the associations are not ours."""

    async def determine_remote(self, message: Any) -> None:  # noqa: ANN401
        """No names are resolved here: a request of ours names its association."""

    async def recognize_remote(self, remote: object) -> bool:
        return isinstance(remote, _Remote)


class AiocoapLane:
    """Between :meth:`start` and :meth:`stop`, give every plaintext to :meth:`receive`.

    Args:
        send: puts a CoAP datagram into an association; does nothing if that has ended, never
            raises.
        intake: see :class:`gateway.ingress.resources.Intake`.
        further: resources of other rooms, by their paths.
    """

    def __init__(
        self,
        send: Callable[[Endpoint, bytes], None],
        intake: Intake,
        clock: Clock,
        config: Config | None = None,
        further: Mapping[tuple[str, ...], Resource] | None = None,
    ) -> None:
        self._send = send
        self._clock = clock
        self._config = config or Config()
        self._site = resources.Site(resources.table(intake, clock, further or {}))
        self._guard = Guard(self._config, self)
        self._tokens = itertools.count()
        # RFC 7252 section 4.4: a random start makes off-path guesses harder.
        self._mids = itertools.count(secrets.randbelow(0x10000))
        self._context: _Context | None = None
        self._messages: _Messages | None = None
        self.counts: Counter[str] = Counter()
        """Datagrams by what became of them; the keys are a fixed set."""

    async def start(self) -> None:
        """In the event loop that :meth:`receive` is called from."""
        context = _Context(site=self._site, observations=self._config.observations)
        # As Context._append_tokenmanaged_messagemanaged_transport does, with our message layer.
        tokens = TokenManager(context)
        messages = _Messages(tokens, self.next_message_id)
        messages.message_interface = _Transport(self._deliver)
        tokens.token_interface = messages
        context.request_interfaces.append(tokens)
        self._context, self._messages = context, messages

    async def stop(self) -> None:
        """Cancel what is being rendered; nothing is sent any more."""
        context, self._context, self._messages = self._context, None, None
        if context is not None:
            await context.shutdown()

    def receive(self, endpoint: Endpoint, plaintext: bytes, now: float) -> None:
        """One datagram. Never raises: a bug costs the datagram and a log line."""
        messages = self._messages
        if messages is None:
            return
        try:
            verdict = self._guard.judge(endpoint, plaintext, now)
            if isinstance(verdict, Dispatch):
                self.counts["dispatched"] += 1
                self._dispatch(messages, endpoint, verdict.message)
                return
            self.counts[verdict.reason] += 1
            if isinstance(verdict, Answer):
                self._send(endpoint, verdict.datagram)
        except Exception:
            self.counts["bugs"] += 1
            _log.exception("a CoAP message was dropped because of a bug")

    def limit(self, per_s: float) -> None:
        """Another rate for every device from now on; 0: none."""
        self._guard.limit(per_s)

    def closed(self, endpoint: Endpoint) -> None:
        """The association has ended: forget its observations, bodies, requests and answers."""
        self._guard.closed(endpoint)
        if self._messages is not None:
            self._messages.dispatch_error(
                AssociationClosedError("the association has ended"), _Remote(endpoint)
            )

    def sweep(self, now: float) -> None:
        """Free what has expired; every few seconds."""
        self._guard.sweep(now)

    def next_message_id(self) -> int:
        """For a message that is sent past aiocoap, as answers of the fast lane to
        Non-confirmable messages are: one source of IDs to each endpoint, started or not."""
        return next(self._mids) & 0xFFFF

    def in_hand(self, endpoint: Endpoint) -> int:
        """See :class:`gateway.ingress.guard.Behind`."""
        if self._context is None or self._messages is None:
            return 0
        rendering = self._context.rendering.get(endpoint.association, 0)
        return rendering + self._messages.queued(_Remote(endpoint))

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        """See :class:`gateway.ingress.guard.Behind`."""
        return self._messages is not None and self._messages.is_token_taken(endpoint, token)

    def _dispatch(self, messages: _Messages, endpoint: Endpoint, message: Message) -> None:
        incoming = aiocoap.Message.decode(wire.encode(message), _Remote(endpoint))
        incoming.transport_tuning = _TUNING
        incoming.wire_token = message.token
        if message.code not in _READS:
            incoming.token = next(self._tokens).to_bytes(_INNER_TOKEN, "big")
        messages.dispatch_message(incoming)

    def _deliver(self, endpoint: Endpoint, message: Any) -> None:  # noqa: ANN401
        if self._messages is None:
            return
        request, token = message.request, message.token
        if request is not None and message.code.is_response():
            message.token = request.wire_token
        datagram = message.encode()
        message.token = token
        if message.mtype is aiocoap.ACK:
            self._guard.answered(endpoint, message.mid, datagram, self._clock.monotonic())
        self._send(endpoint, datagram)
