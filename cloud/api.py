"""The API of the cloud store: one table of routes, one handler each.

A handler reads what was asked, calls the store and shapes the answer. Who may call it is in the
table; what went wrong becomes an answer in one place, :meth:`Api.border`.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from certs.profiles import ALARM_CENTRE, DOCTOR, GATEWAY, RECIPIENTS
from cloud.answers import (
    acknowledgement_object,
    not_found,
    page_object,
    receipt_response,
    refusal,
)
from cloud.auth import Principal, envelope_untrusted, principal_of
from cloud.listeners import Listeners
from cloud.metrics import Metrics
from cloud.requests import (
    COSE,
    MAX_BATCH_BYTES,
    MAX_ENVELOPE_BYTES,
    body_untrusted,
    id_untrusted,
    last_event_id_untrusted,
    query_untrusted,
)
from cloud.store import Put
from cloud.stream import serve_events
from gateway.cose.record import decode_batch_untrusted
from gateway.errors import BadRequestError, ForbiddenError, GatewayError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cryptography import x509

    from cloud.store import Store
    from gateway.clock import Clock

_log = logging.getLogger(__name__)

UPLOADS = 16
"""Bodies in memory at once, of batches, and as many of alarms and envelopes, which must not wait
behind slow batches. With MAX_BATCH_BYTES, the bound for the whole process."""

_GATEWAYS = frozenset({GATEWAY.role})
_READERS = frozenset(profile.role for profile in RECIPIENTS)
_ALARM_READERS = frozenset({ALARM_CENTRE.role, DOCTOR.role})
_ANYONE = _GATEWAYS | _READERS

_PAGE_QUERY = frozenset({"after", "limit", "lane", "patient"})
_ACKS_QUERY = frozenset({"after", "limit"})


class Route(NamedTuple):
    """One line of the API."""

    method: str
    path: str
    roles: frozenset[str]
    handler: Callable[[web.Request, Principal], Awaitable[web.StreamResponse]]


class Api:
    """The handlers and what they share."""

    def __init__(
        self,
        store: Store,
        *,
        ca: x509.Certificate,
        roles: Mapping[str, frozenset[Lane]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._ca = ca
        self._roles = roles
        self._clock = clock
        self._metrics = Metrics()
        self._batches = asyncio.Semaphore(UPLOADS)
        self._urgent = asyncio.Semaphore(UPLOADS)
        self._openapi = resources.files("cloud").joinpath("openapi.json").read_bytes()
        self.listeners = Listeners()

    def routes(self) -> tuple[Route, ...]:
        """The whole API."""
        return (
            Route("POST", "/v1/records", _GATEWAYS, self.post_records),
            Route("POST", "/v1/alarms", _GATEWAYS, self.post_alarms),
            Route("PUT", "/v1/epochs/{id}", _GATEWAYS, self.put_epoch),
            Route("GET", "/v1/epochs/{id}", _READERS, self.get_epoch),
            Route("GET", "/v1/records", _READERS, self.get_records),
            Route("GET", "/v1/alarms/events", _ALARM_READERS, self.get_events),
            Route("POST", "/v1/alarms/{id}/ack", _ALARM_READERS, self.post_ack),
            Route("GET", "/v1/alarms/acks", _GATEWAYS, self.get_acks),
            Route("GET", "/v1/healthz", _ANYONE, self.get_health),
            Route("GET", "/metrics", _ANYONE, self.get_metrics),
            Route("GET", "/v1/openapi.json", _ANYONE, self.get_openapi),
        )

    def application(self) -> web.Application:
        """Ready to be served behind TLS with client certificates."""
        application = web.Application(client_max_size=MAX_BATCH_BYTES)
        for route in self.routes():
            application.router.add_route(route.method, route.path, self.border(route))
        return application

    def border(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Let the right callers in, turn every error into an answer, and count."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                principal = principal_of(request.transport, wall=self._clock.wall())
                if principal.role not in route.roles:
                    raise ForbiddenError(f"not for the role {principal.role!r}")
                response = await route.handler(request, principal)
            except GatewayError as error:
                response = refusal(error)
            except Exception:
                _log.exception("%s %s", route.method, route.path)
                response = web.json_response({"error": "internal error"}, status=500)
            self._metrics.count(
                "ward_cloud_requests_total",
                method=route.method,
                path=route.path,
                status=str(response.status),
            )
            return response

        return handle

    async def post_records(self, request: web.Request, principal: Principal) -> web.Response:
        """A signed batch of either lane."""
        async with self._batches:
            return await self._take_batch(request, principal, frozenset(Lane))

    async def post_alarms(self, request: web.Request, principal: Principal) -> web.Response:
        """A signed batch of emergencies."""
        async with self._urgent:
            return await self._take_batch(request, principal, frozenset({Lane.EMERGENCY}))

    async def _take_batch(
        self, request: web.Request, principal: Principal, lanes: frozenset[Lane]
    ) -> web.Response:
        body = await body_untrusted(request, MAX_BATCH_BYTES)
        items = decode_batch_untrusted(body, principal.verification_key(), gateway=principal.name)
        if not lanes.issuperset(header.lane for header, _ in items):
            raise BadRequestError("a routine record is not an alarm: post it to /v1/records")
        receipt = await self._store.add_records(principal.name, items)
        stored = set(receipt.stored)
        if any(header.lane is Lane.EMERGENCY and header.id in stored for header, _ in items):
            self.listeners.wake()
        for outcome, ids in (
            ("stored", receipt.stored),
            ("known", receipt.known),
            ("refused", receipt.refused),
        ):
            self._metrics.count("ward_cloud_records_total", len(ids), outcome=outcome)
        return receipt_response(receipt)

    async def put_epoch(self, request: web.Request, principal: Principal) -> web.Response:
        """A key envelope. 201 new, 200 known already, 409 another one is there."""
        epoch = id_untrusted(request.match_info["id"])
        async with self._urgent:
            body = await body_untrusted(request, MAX_ENVELOPE_BYTES)
        envelope = envelope_untrusted(body, gateway=principal.name, epoch=epoch, ca=self._ca)
        put = await self._store.put_epoch(envelope)
        self._metrics.count("ward_cloud_envelopes_total", outcome=put.value)
        if put is Put.CONFLICT:
            return web.json_response({"error": "the epoch has another envelope"}, status=409)
        return web.json_response({"epoch": epoch.hex()}, status=201 if put is Put.NEW else 200)

    async def get_epoch(self, request: web.Request, principal: Principal) -> web.Response:
        """The envelope as the gateway sent it."""
        epoch = id_untrusted(request.match_info["id"])
        message = await self._store.epoch(epoch, principal.sight(self._roles))
        if message is None:
            return not_found("no such epoch for this reader")
        return web.Response(body=message, content_type=COSE)

    async def get_records(self, request: web.Request, principal: Principal) -> web.Response:
        """A page of sealed records."""
        query = query_untrusted(request.query, _PAGE_QUERY)
        sight = principal.sight(self._roles)
        if query.lane is not None:
            sight = sight._replace(lanes=sight.lanes & {query.lane})
        page = await self._store.page(
            sight, after=query.after, limit=query.limit, patient=query.patient
        )
        self._metrics.count("ward_cloud_records_served_total", len(page.records))
        return web.json_response(page_object(page))

    async def get_events(self, request: web.Request, principal: Principal) -> web.StreamResponse:
        """Emergencies as they come."""
        sight = principal.sight(self._roles)
        return await serve_events(
            request,
            self.listeners,
            self._store,
            name=principal.name,
            sight=sight._replace(lanes=sight.lanes & {Lane.EMERGENCY}),
            after=last_event_id_untrusted(request.headers),
            check=lambda: principal_of(request.transport, wall=self._clock.wall()),
        )

    async def post_ack(self, request: web.Request, principal: Principal) -> web.Response:
        """Take over an alarm. The first acknowledgement stays and is what everybody is told."""
        given = await self._store.acknowledge(
            id_untrusted(request.match_info["id"]),
            principal.sight(self._roles),
            name=principal.name,
            role=principal.role,
            at_ms=int(self._clock.wall() * 1000),
        )
        if given is None:
            return not_found("no such alarm for this reader")
        self._metrics.count("ward_cloud_acknowledgements_total")
        return web.json_response(acknowledgement_object(given))

    async def get_acks(self, request: web.Request, principal: Principal) -> web.Response:
        """Acknowledgements of the calling gateway's alarms."""
        query = query_untrusted(request.query, _ACKS_QUERY)
        acks = await self._store.acknowledgements(
            principal.name, after=query.after, limit=query.limit
        )
        return web.json_response({"acks": [acknowledgement_object(given) for given in acks]})

    async def get_health(self, request: web.Request, principal: Principal) -> web.Response:
        """Whether the database answers."""
        await self._store.last_cursor()
        return web.json_response({"status": "ok"})

    async def get_metrics(self, request: web.Request, principal: Principal) -> web.Response:
        """Prometheus text."""
        text = self._metrics.text(listeners=len(self.listeners))
        return web.Response(
            text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def get_openapi(self, request: web.Request, principal: Principal) -> web.Response:
        """This API, described."""
        return web.Response(body=self._openapi, content_type="application/json")
