"""What the gateway serves over CoAP besides the fast lane: a table of paths.

A new resource is a class with its methods and its description, and a line in :func:`table`; one
that lives in another room is given to the lane. One that can be observed also derives from
``aiocoap.resource.ObservableResource``.
Resources answer whole; slicing into blocks (RFC 7959), echoing Block1 and turning errors into
answers happen here once, for all of them. Bodies of requests arrive complete.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import aiocoap
import cbor2
from aiocoap import resource

from gateway.coap import fastlane
from gateway.coap.fastlane import FORMATS, PATHS, Kind
from gateway.coap.numbers import Code, ContentFormat
from gateway.coap.refusal import refusal
from gateway.errors import (
    BadRequestError,
    OutboxFull,
    PeerError,
    SealError,
    UnsupportedContentFormatError,
)
from gateway.ingress.guard import NotAcceptableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from gateway.clock import Clock
    from gateway.endpoint import Endpoint

    Handler = Callable[[Any], Awaitable[aiocoap.Message]]

_log = logging.getLogger("ingress.aiocoap")

BLOCK_EXPONENT: Final = 6
"""1024 bytes: the largest block, and what is not cut if the client asks for no block."""

_TIME_MAX_AGE_S: Final = 1


class Intake(Protocol):
    """Where telemetry of this lane goes: the same place as that of the fast lane."""

    async def admit(
        self, endpoint: Endpoint, kind: Kind, content_format: int, payload: bytes
    ) -> None:
        """Return when the record is on disk.

        May be cancelled while it waits, when the association ends or the gateway stops: what was
        submitted stays submitted, the device is not answered.

        Raises:
            PeerError: the answer to give is in its class.
            OutboxFull: 5.03 with Max-Age.
            SealError: 5.00, and a line in the log.
        """
        ...


class Link(NamedTuple):
    """How a resource describes itself (RFC 6690 section 3)."""

    type: str
    interface: str
    formats: tuple[int, ...]


class Resource(resource.Resource):  # type: ignore[misc]  # aiocoap has no types
    """Base of all. ``methods`` maps request codes to handlers that answer with a whole body."""

    link: Link | None = None
    """None: not listed."""

    def __init__(self, methods: Mapping[int, Handler]) -> None:
        super().__init__()
        self._methods = methods

    async def needs_blockwise_assembly(self, request: aiocoap.Message) -> bool:
        """No: aiocoap's tables of blocks have no bounds; the guard and `_slice` need none."""
        return False

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        """One answer, errors included."""
        handler = self._methods.get(int(request.code))
        try:
            if handler is None:
                raise _MethodNotAllowedError("this resource does not take that method")
            response = _slice(request, await handler(request))
        except (PeerError, OutboxFull) as error:
            response = _refused(error)
        except SealError as error:
            _log.error("a record cannot be sealed: %s", error)
            response = aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR)
        response.opt.block1 = request.opt.block1
        return response


class _MethodNotAllowedError(PeerError):
    kind = "method"
    response_code = int(Code.METHOD_NOT_ALLOWED)


class _NotFoundError(PeerError):
    kind = "not_found"
    response_code = int(Code.NOT_FOUND)


class _ProxyingNotSupportedError(PeerError):
    kind = "proxying"
    response_code = int(Code.PROXYING_NOT_SUPPORTED)


def _refused(error: PeerError | OutboxFull) -> aiocoap.Message:
    code, max_age, size1, diagnostic = refusal(error)
    response = aiocoap.Message(code=code, payload=fastlane.cut_text(diagnostic))
    response.opt.max_age = max_age
    response.opt.size1 = size1
    return response


def _slice(request: aiocoap.Message, response: aiocoap.Message) -> aiocoap.Message:
    """The block that the client asks for, or the first one of a body too long for one datagram.

    Nothing is kept between blocks: each is cut from a fresh body, and the ETag tells the client
    whether that has changed (RFC 7959 section 2.4).
    """
    if response.code != Code.CONTENT:
        return response
    body = response.payload
    wanted = request.opt.block2
    if wanted is None:
        number, exponent = 0, BLOCK_EXPONENT
    else:
        number, exponent = wanted.block_number, wanted.size_exponent
    size = 1 << exponent + 4
    start = number * size
    if number == 0 and len(body) <= size:
        return response
    if start >= len(body):
        raise BadRequestError("there is no such block")
    response.payload = body[start : start + size]
    response.opt.block2 = (number, start + size < len(body), exponent)
    response.opt.etag = hashlib.blake2b(body, digest_size=4).digest()
    if number == 0:
        response.opt.size2 = len(body)
    return response


class Telemetry(Resource):
    """``/vitals``, ``/alarm``, ``/sealed``, ``/sealed/alarm`` and their short names."""

    def __init__(self, kind: Kind, intake: Intake) -> None:
        super().__init__({Code.POST: self._admit, Code.PUT: self._admit})
        self._kind = kind
        self._intake = intake
        self.link = Link(f"ward.{kind.replace('_', '.')}", "ward.sink", FORMATS[kind])

    async def _admit(self, request: aiocoap.Message) -> aiocoap.Message:
        content_format = request.opt.content_format
        if content_format not in FORMATS[self._kind]:
            known = " or ".join(str(int(one)) for one in FORMATS[self._kind])
            raise UnsupportedContentFormatError(f"use Content-Format {known} here")
        if not request.payload:
            raise BadRequestError("there is no payload")
        await self._intake.admit(
            request.remote.endpoint, self._kind, int(content_format), request.payload
        )
        return aiocoap.Message(code=Code.CHANGED)


class Time(Resource):
    """``/time``: for nodes without a clock. CBOR map {1: epoch seconds, 2: synchronised}."""

    def __init__(self, clock: Clock) -> None:
        super().__init__({Code.GET: self._get})
        self._clock = clock
        self.link = Link("ward.time", "ward.read", (ContentFormat.CBOR, ContentFormat.TEXT))

    async def _get(self, request: aiocoap.Message) -> aiocoap.Message:
        content_format = _negotiate(request, (ContentFormat.CBOR, ContentFormat.TEXT))
        wall, synchronised = self._clock.wall(), self._clock.synchronised()
        if content_format == ContentFormat.CBOR:
            payload = cbor2.dumps({1: int(wall), 2: synchronised})
        else:
            text = datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            payload = (text if synchronised else f"{text} not synchronised").encode()
        return aiocoap.Message(
            code=Code.CONTENT,
            payload=payload,
            content_format=content_format,
            max_age=_TIME_MAX_AGE_S,
        )


class Discovery(Resource):
    """``/.well-known/core`` (RFC 6690), with filters by any attribute of a link."""

    def __init__(self, entries: Mapping[tuple[str, ...], Resource]) -> None:
        super().__init__({Code.GET: self._get})
        self._entries = entries

    async def _get(self, request: aiocoap.Message) -> aiocoap.Message:
        content_format = _negotiate(request, (ContentFormat.LINK,))
        links = (
            ("/" + "/".join(path), entry.link)
            for path, entry in self._entries.items()
            if entry.link is not None
        )
        filters = [query.partition("=") for query in request.opt.uri_query if "=" in query]
        body = ",".join(
            _format_link(target, link)
            for target, link in links
            if all(_matches(target, link, name, value) for name, _, value in filters)
        )
        return aiocoap.Message(
            code=Code.CONTENT, payload=body.encode(), content_format=content_format
        )


def _format_link(target: str, link: Link) -> str:
    # ``ct`` is one quoted list (RFC 7252 section 7.2.1, erratum 5078).
    formats = " ".join(str(int(one)) for one in link.formats)
    return f'<{target}>;rt="{link.type}";if="{link.interface}";ct="{formats}"'


def _matches(target: str, link: Link, name: str, value: str) -> bool:
    """RFC 6690 section 4.1: exact, or a prefix if ``value`` ends in ``*``."""
    attributes: dict[str, Iterable[str]] = {
        "href": (target,),
        "rt": (link.type,),
        "if": (link.interface,),
        "ct": (str(int(one)) for one in link.formats),
    }
    found = attributes.get(name, ())
    if value.endswith("*"):
        return any(one.startswith(value[:-1]) for one in found)
    return value in found


def _negotiate(request: aiocoap.Message, offered: Sequence[ContentFormat]) -> ContentFormat:
    """The first format offered, unless Accept names another of them."""
    accept = request.opt.accept
    if accept is None:
        return offered[0]
    if accept not in offered:
        raise NotAcceptableError(f"cannot answer in Content-Format {int(accept)}")
    return ContentFormat(int(accept))


def table(
    intake: Intake, clock: Clock, further: Mapping[tuple[str, ...], Resource]
) -> dict[tuple[str, ...], Resource]:
    """Every resource by its path."""
    entries: dict[tuple[str, ...], Resource] = {
        path: Telemetry(kind, intake) for path, kind in PATHS.items()
    }
    entries["time",] = Time(clock)
    entries.update(further)
    entries[".well-known", "core"] = Discovery(entries)
    return entries


class Site:
    """What aiocoap renders requests with: the table, and an answer for what is not in it."""

    def __init__(self, entries: Mapping[tuple[str, ...], Resource]) -> None:
        self._entries = entries

    async def render_to_pipe(self, pipe: Any) -> None:  # noqa: ANN401  # aiocoap has no types
        """Answer ``pipe.request``."""
        request = pipe.request
        entry = self._entries.get(request.opt.uri_path)
        error: PeerError
        if request.opt.proxy_uri is not None or request.opt.proxy_scheme is not None:
            error = _ProxyingNotSupportedError("this gateway does not forward requests")
        elif entry is None:
            error = _NotFoundError("there is no such resource")
        else:
            await entry.render_to_pipe(pipe)
            return
        response = _refused(error)
        response.opt.block1 = request.opt.block1
        pipe.add_response(response, is_last=True)
