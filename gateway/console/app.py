"""The console's paths: ``/healthz``, ``/readyz`` and ``/metrics``.

``/healthz`` answers anybody as long as the event loop turns; ``/readyz`` says with its status
whether a record would be acknowledged now, and to those who may ask also why not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from gateway.console import auth, metrics
from gateway.console.listening import Listening
from gateway.errors import GatewayError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from aiohttp.typedefs import Handler

    from gateway.clock import Clock

_log = logging.getLogger("console")

_LARGEST_BODY: Final = 1024
_MAX_HEADER_BYTES: Final = 4096
_GRACE_S: Final = 1.0
_HEADERS: Final = {
    "Server": "ward-gateway",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Source(Protocol):
    """The gateway, as the console sees it."""

    def trouble(self) -> list[str]:
        """Why it is not ready, a line each; empty when it is."""
        ...

    async def figures(self) -> dict[str, Any]:
        """What :func:`gateway.console.metrics.text` takes. Raises GatewayError."""
        ...


class Console:
    """``await start(...)``, ``await stop()``."""

    def __init__(
        self, source: Source, token: str, clock: Clock, tls: ssl.SSLContext | None
    ) -> None:
        """``token``: what opens it; ``tls``: for addresses beyond this machine."""
        self._source = source
        self._token = token
        self._clock = clock
        self._tls = tls
        self.urls: list[str] = []
        """Where it listens, once started."""

    async def start(self, places: Sequence[str]) -> None:
        """Listen on each ``host:port``. Raises ConfigError; call :meth:`stop` all the same."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._one_request])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.on_response_prepare.append(_dress)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=_GRACE_S,
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "set up above"
        self._listening = Listening(server, self._tls)
        self.urls = await self._listening.open(places)

    async def stop(self) -> None:
        """Take no more connections, and end those that there are."""
        await self._listening.close()
        await self._runner.cleanup()

    # -- paths

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        trouble = self._source.trouble()
        lines = ["not ready" if trouble else "ready"]
        if self._welcome(request):
            lines += trouble
        return web.Response(status=503 if trouble else 200, text="\n".join(lines) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._welcome(request):
            return web.Response(
                status=401,
                headers={"WWW-Authenticate": 'Bearer realm="ward-gateway"'},
                text=f"show the token: `Authorization: Bearer ...`, it is in state/{auth.NAME}\n",
            )
        try:
            figures = await self._source.figures()
        except GatewayError as error:
            return web.Response(status=503, text=f"{error}\n")
        text = metrics.text(figures, wall=self._clock.wall())
        return web.Response(body=text.encode(), headers={"Content-Type": _METRICS})

    def _welcome(self, request: web.Request) -> bool:
        return auth.welcome(request, self._token, self._clock.wall())

    @web.middleware
    async def _one_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Each connection is for one: see :mod:`gateway.console.listening`."""
        self._listening.asked(request.protocol)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=f"{error.reason}\n")
        response.force_close()
        return response


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
