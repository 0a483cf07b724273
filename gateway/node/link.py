"""A node's connection to a gateway: one UDP socket, one association, requests one at a time.

A request is repeated as its :class:`Transmission` says. NSTART is 1 (RFC 7252 section 4.7), as a
small node has it: a request waits for the one before. The radio can be made to lose datagrams, both
ways, to see what retransmission makes of it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import (
    ACK_RANDOM_FACTOR,
    ACK_TIMEOUT,
    MAX_RETRANSMIT,
    Code,
    Option,
    Type,
    is_request,
)
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from gateway.errors import DtlsError, GatewayError, PeerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.dtls.client import ClientFactory

COAPS_PORT: Final = 5684
_MTU: Final = 1232
_SEPARATE_ANSWER_S: Final = 60.0
"""How long an acknowledged request waits for its separate answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmission:
    """How a node repeats a Confirmable message: transmission parameters (RFC 7252 section 4.8)."""

    ack_timeout_s: float = ACK_TIMEOUT
    """Below 1 s a node needs a way to notice congestion (section 4.8.1)."""
    ack_random_factor: float = ACK_RANDOM_FACTOR
    max_retransmit: int = MAX_RETRANSMIT
    early_repeat_s: float | None = None
    """One more copy so soon after the first, for a message that cannot wait. It is beside the RFC
    (section 4.2 waits for ACK_TIMEOUT first), and worth it for a single small datagram: of
    10 % of datagrams lost each way it leaves 4 in 100 messages to the timers instead of 19."""

    def max_transmit_wait_s(self) -> float:
        """From the first sending to giving up, at most (section 4.8.2)."""
        tries: int = 2 ** (self.max_retransmit + 1) - 1
        return self.ack_timeout_s * tries * self.ack_random_factor


DEFAULT: Final = Transmission()
URGENT: Final = Transmission(ack_timeout_s=1.0, early_repeat_s=0.25)
"""For emergencies over a radio that loses much."""


class LinkError(GatewayError):
    """No answer, or none that means anything."""

    kind = "link"


class Target(NamedTuple):
    """A ``coaps`` URI, taken apart (RFC 7252 section 6.4)."""

    host: str
    port: int
    path: tuple[str, ...]
    query: tuple[str, ...]


def parse_uri(uri: str) -> Target:
    """Raises UsageError for anything but ``coaps://HOST[:PORT]/PATH?QUERY``.

    A ``/`` or ``&`` inside a segment or an argument is written as ``%2F`` or ``%26``.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
        segments = () if parts.path in ("", "/") else parts.path[1:].split("/")
        path = tuple(unquote(segment, errors="strict") for segment in segments)
        arguments = parts.query.split("&") if parts.query else ()
        query = tuple(unquote(argument, errors="strict") for argument in arguments)
    except ValueError:
        raise UsageError(f"{uri!r} is not an address") from None
    if parts.scheme != "coaps" or not parts.hostname or port == 0:
        raise UsageError(f"{uri!r}: must be coaps://HOST[:PORT]/PATH")
    if parts.fragment or parts.username is not None:
        raise UsageError(f"{uri!r}: a CoAP address has neither a user nor a fragment")
    return Target(parts.hostname, port or COAPS_PORT, path, query)


class Link(asyncio.DatagramProtocol):
    """Open with :meth:`open`, then :meth:`request`.

    loss: share of datagrams lost in each direction, 0 to 1; chance: decides which.
    """

    def __init__(self, *, loss: float, chance: random.Random, transmission: Transmission) -> None:
        self._loss = loss
        self._chance = chance
        self._transmission = transmission
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._error: Exception | None = None
        self._mid = chance.randrange(1 << 16)
        self._token = chance.randrange(1 << 16)
        self._answers: list[Message] = []
        self._busy = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        identity: str,
        key: bytes,
        transmission: Transmission = DEFAULT,
    ) -> Link:
        """Shake hands with a pre-shared key. Raises LinkError."""
        engines = OpensslClient(identity.encode(), key, psk_suites())
        return await cls.shake_hands(
            host, port, engines, loss=0.0, chance=random.Random(), transmission=transmission
        )

    @classmethod
    async def shake_hands(
        cls,
        host: str,
        port: int,
        engines: ClientFactory,
        *,
        loss: float,
        chance: random.Random,
        transmission: Transmission = DEFAULT,
    ) -> Link:
        """The same with whatever the engines prove. Raises LinkError."""
        link = cls(loss=loss, chance=chance, transmission=transmission)
        try:
            transport, _ = await link._loop.create_datagram_endpoint(
                lambda: link, remote_addr=(host, port)
            )
        except OSError as error:
            raise LinkError(f"{host}:{port}: {error}") from None
        link._transport = transport
        link._client = Client(engines, mtu=_MTU, now=link._loop.time())
        try:
            await link._until_associated(link._client)
        except DtlsError as error:
            link.close()
            raise LinkError(f"{host}:{port}: {error}") from None
        except BaseException:
            link.close()
            raise
        return link

    async def _until_associated(self, client: Client) -> None:
        while client.association is None:
            self._flush(client)
            timer = client.get_timer()
            await self._wait(None if timer is None else timer - self._loop.time())
            client.handle_timer(self._loop.time())
        self._flush(client)

    async def request(
        self,
        code: Code,
        path: Sequence[str],
        *,
        payload: bytes = b"",
        content_format: int | None = None,
        query: Sequence[str] = (),
        accept: int | None = None,
    ) -> Message:
        """One Confirmable request; its answer, piggybacked or separate.

        Raises LinkError when there is none, the association is gone, or the request is rejected.
        """
        options = [(Option.URI_PATH, segment.encode()) for segment in path]
        if content_format is not None:
            options.append((Option.CONTENT_FORMAT, _uint(content_format)))
        options += [(Option.URI_QUERY, part.encode()) for part in query]
        if accept is not None:
            options.append((Option.ACCEPT, _uint(accept)))
        async with self._busy:
            self._mid = (self._mid + 1) & 0xFFFF
            self._token = (self._token + 1) & 0xFFFF
            token = self._token.to_bytes(2, "big")
            asked = Message(Type.CON, code, self._mid, token, tuple(options), payload)
            return await self._exchange(asked)

    async def _exchange(self, asked: Message) -> Message:
        assert self._client is not None
        datagram = message.encode(asked)
        for patience in self._waits():
            self._client.send(datagram)
            self._flush(self._client)
            until = self._loop.time() + patience
            while (left := until - self._loop.time()) > 0:
                answer = self._answer(asked)
                if answer is not None and answer.code != Code.EMPTY:
                    return answer
                if answer is not None:
                    if answer.type is Type.RST:
                        raise LinkError("the gateway rejected the request (Reset)")
                    until = self._loop.time() + _SEPARATE_ANSWER_S
                await self._wait(left)
        raise LinkError("no answer")

    def _waits(self) -> Iterator[float]:
        """Seconds from each sending to the next, the last one to giving up."""
        how = self._transmission
        patience = how.ack_timeout_s * self._chance.uniform(1.0, how.ack_random_factor)
        early = how.early_repeat_s
        if early is not None and early < patience:
            yield early
            yield patience - early
        else:
            yield patience
        for _ in range(how.max_retransmit):
            patience *= 2
            yield patience

    def _answer(self, asked: Message) -> Message | None:
        answers, self._answers = self._answers, []
        for answer in answers:
            empty = answer.code == Code.EMPTY
            if (answer.mid == asked.mid) if empty else (answer.token == asked.token):
                return answer
        return None

    async def _wait(self, timeout_s: float | None) -> None:
        """Until something has arrived or the time is over. Raises what went wrong meanwhile."""
        if self._error is None and not self._answers:
            await asyncio.wait([self._changed], timeout=timeout_s)
        if self._changed.done():
            self._changed = self._loop.create_future()
        # What was said before the goodbye counts.
        if self._error is not None and not self._answers:
            raise LinkError(str(self._error))

    def _flush(self, client: Client) -> None:
        out, client.outgoing = client.outgoing, []
        for datagram in out:
            if self._chance.random() >= self._loss and self._transport is not None:
                self._transport.sendto(datagram)

    def close(self) -> None:
        """Say close_notify and let go of the socket."""
        if self._client is not None and self._client.association is not None:
            self._client.outgoing.append(self._client.association.close())
            self._flush(self._client)
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: object) -> None:
        """A datagram from the gateway."""
        if self._client is None or self._chance.random() < self._loss:
            return
        try:
            for plaintext in self._client.receive(data, self._loop.time()):
                self._understand(plaintext, self._client)
        except DtlsError as error:
            self._error = error
        self._flush(self._client)
        self._wake()

    def _understand(self, plaintext: bytes, client: Client) -> None:
        try:
            got = message.decode_untrusted(plaintext)
        except PeerError:
            return
        if is_request(got.code) or (got.type is Type.CON and got.code == Code.EMPTY):
            client.send(message.reset(got.mid))  # a node that serves nothing
            return
        if got.type is Type.CON:
            client.send(message.empty_ack(got.mid))
        self._answers.append(got)

    def error_received(self, exc: Exception) -> None:
        """Usually ICMP port unreachable: nobody listens there."""
        self._error = exc
        self._wake()

    def _wake(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)


def _uint(value: int) -> bytes:
    """RFC 7252 section 3.2: no leading zero bytes."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
