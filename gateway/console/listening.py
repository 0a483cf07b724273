"""Sockets of the console, with a bound on connections and on the time of each.

A connection is for one request: a stranger who only connects, or sends a byte a second, has ten
seconds of one of 16 places; when all are taken, one more is turned away. The outbox and the nodes
need their descriptors; when there are none left, that is said once a minute, and ends by itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

_log = logging.getLogger("console")

MOST_CONNECTIONS: Final = 16
REQUEST_WITHIN_S: Final = 10.0
"""For the TLS handshake, and again for the head of the request."""

_BACKLOG: Final = 16
_PAUSE_S: Final = 1.0
_COMPLAIN_EVERY_S: Final = 60.0


class Listening:
    """All addresses of one console."""

    def __init__(self, server: web.Server, tls: ssl.SSLContext | None) -> None:
        """``tls``: for addresses that are not loopback; None if there are none."""
        self._server = server
        self._tls = tls
        self._unasked: dict[object, asyncio.TimerHandle] = {}
        self._accepting: list[asyncio.Task[None]] = []
        self._connecting: set[asyncio.Task[None]] = set()

    async def open(self, places: Sequence[str]) -> list[str]:
        """Listen on each ``host:port``; the addresses as URLs. Raises ConfigError."""
        urls = []
        for place in places:
            tls = None if is_loopback(place) else self._tls
            try:
                one = bound(place)
            except OSError as error:
                raise ConfigError(
                    [f"[console] listen: {place}: {error.strerror or error}; choose another port"]
                ) from None
            self._accepting.append(
                asyncio.create_task(self._accept(one, tls), name=f"console {place}")
            )
            host, port = one.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            urls.append(f"http{'' if tls is None else 's'}://{shown}:{port}")
        return urls

    async def close(self) -> None:
        """Accept nobody any more."""
        tasks = [*self._accepting, *self._connecting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for timer in self._unasked.values():
            timer.cancel()
        self._unasked.clear()

    def asked(self, protocol: object) -> None:
        """The head of this connection's request is there."""
        timer = self._unasked.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    async def _accept(self, one: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        complain_at = 0.0
        with one:
            while True:
                try:
                    client, _ = await loop.sock_accept(one)
                except OSError as error:
                    if loop.time() >= complain_at:
                        complain_at = loop.time() + _COMPLAIN_EVERY_S
                        _log.warning("nobody can be served now: %s", error)
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if len(self._server.connections) + len(self._connecting) >= MOST_CONNECTIONS:
                    client.close()
                    continue
                task = asyncio.create_task(self._connect(client, tls), name="console client")
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)

    async def _connect(self, client: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        handler = self._server()
        try:
            await loop.connect_accepted_socket(
                lambda: handler,
                client,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else REQUEST_WITHIN_S,
            )
        except (OSError, TimeoutError, ssl.SSLError):
            client.close()
            return
        self._unasked[handler] = loop.call_later(REQUEST_WITHIN_S, self._expire, handler)

    def _expire(self, handler: web.RequestHandler) -> None:
        self._unasked.pop(handler, None)
        handler.force_close()


def split(place: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[address]:port``."""
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(place: str) -> bool:
    """Whether only this machine can reach it: no TLS is needed there."""
    host, _ = split(place)
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def bound(place: str) -> socket.socket:
    """A listening socket. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        *split(place), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    one = socket.socket(family, kind, protocol)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setblocking(False)
        one.bind(address)
        one.listen(_BACKLOG)
    except BaseException:
        one.close()
        raise
    return one
