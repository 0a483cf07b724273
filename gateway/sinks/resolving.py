"""Names to addresses, by the system's resolver, in threads that nobody waits for.

When the ward's way out is gone the resolver does not fail, it hangs, some ten seconds a question
(man 5 resolv.conf). The event loop's own threads are joined when the process ends, so that a stop
would last as long; these are not. aiohttp asks one question at a time for a host, and those who
come meanwhile wait for its answer, so a lane has one thread here at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """For one connector."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def tell(settle: Callable[..., None], what: object) -> None:
            if not answer.done():
                settle(what)

        def look_up() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                try:
                    found = _look_up(host, port, family)
                except (OSError, ValueError) as error:  # ValueError: no name at all
                    loop.call_soon_threadsafe(tell, answer.set_exception, error)
                else:
                    loop.call_soon_threadsafe(tell, answer.set_result, found)

        Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        return await answer

    async def close(self) -> None:
        """Nothing is kept."""


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    found: Any = socket.getaddrinfo(
        host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [
        ResolveResult(
            hostname=host,
            # The name of the address: a link-local one comes with its interface.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=address[1],
            family=of,
            proto=protocol,
            flags=_NUMERIC,
        )
        for of, _, protocol, _, address in found
    ]
