"""The cloud store as a running service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

import cloud.stores
from certs.files import load_certificate
from cloud.api import Api
from cloud.auth import tls_context
from cloud.store import Store, StoreError, split_address, stores
from gateway.errors import ConfigError
from gateway.registry import load_all

if TYPE_CHECKING:
    from cloud.config import Config
    from gateway.clock import Clock

MAX_HEADER_BYTES = 8190
"""Of the request line, and of one header field (aiohttp counts each)."""

TLS_HANDSHAKE_TIMEOUT_S = 10.0
"""A gateway on a satellite line takes 3 s."""

KEEPALIVE_S = 75.0
"""Longer than the time between two routine batches, so that most find their connection open."""

GRACE_S = 5.0
"""At the end, for requests under way: what was not answered is sent again and known by its id."""


class Service:
    """Made by :func:`start`. ``failed`` ends when the store can no longer promise anything."""

    def __init__(
        self, runner: web.AppRunner, api: Api, store: Store, server: asyncio.Server
    ) -> None:
        self._runner = runner
        self._api = api
        self._store = store
        self._server = server

    @property
    def address(self) -> tuple[str, int]:
        """Host and port where it listens."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Take nothing new, finish what is under way, close the store."""
        self._server.close()
        self._api.listeners.stop()
        await self._runner.cleanup()
        await self._store.close()


async def start(config: Config, clock: Clock, failed: asyncio.Future[None]) -> Service:
    """Open the store and listen. Raises ConfigError that names everything unusable.

    ``failed`` gets an exception, once, when the store cannot go on: stop the service then, and
    the process, so that a supervisor starts it again from what is on the disk.
    """
    context = tls_context(config)
    ca = load_certificate(config.ca)
    store = await _open(config, failed)
    api = Api(store, ca=ca, roles=config.roles, clock=clock)
    runner = web.AppRunner(
        api.application(),
        access_log=None,
        handle_signals=False,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        shutdown_timeout=GRACE_S,
    )
    await runner.setup()
    protocol_factory = runner.server
    assert protocol_factory is not None, "set up above"
    host, port = config.address()
    try:
        server = await asyncio.get_running_loop().create_server(
            protocol_factory,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=GRACE_S,
        )
    except OSError as error:
        await runner.cleanup()
        await store.close()
        raise ConfigError([f"cloud.listen: cannot listen on {config.listen}: {error}"]) from error
    return Service(runner, api, store, server)


async def _open(config: Config, failed: asyncio.Future[None]) -> Store:
    load_all(cloud.stores)
    scheme, location = split_address(config.database)

    def on_failure(error: Exception) -> None:
        if not failed.done():
            failed.set_exception(StoreError(f"{config.database}: {error}"))

    try:
        opener = stores.get(scheme)
        return await opener(location, folder=config.folder, on_failure=on_failure)
    except KeyError as error:
        raise ConfigError([f"cloud.database: {error.args[0]}"]) from None
    except StoreError as error:
        if "locked" in str(error):
            in_use = f"{config.database}: in use by a running cloud store; stop it first"
            raise StoreError(in_use) from error
        raise ConfigError([f"cloud.database: {error}"]) from error
