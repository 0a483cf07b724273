"""aiocoap's own server: a resource ``/v`` that answers 2.04 and does nothing else.

Arguments: the port, and for DTLS (the tinydtls_server transport) the key. Without one: plain UDP.
"""

from __future__ import annotations

import asyncio
import sys

import aiocoap
from aiocoap.credentials import CredentialsMap
from aiocoap.numbers import COAP_PORT, COAPS_PORT
from aiocoap.resource import Resource, Site

DEVICES = 1000


class Sink(Resource):  # type: ignore[misc]  # aiocoap has no types
    """Takes a pack and keeps nothing."""

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """2.04."""
        return aiocoap.Message(code=aiocoap.CHANGED)


def credentials(key: str) -> CredentialsMap:
    """The benchmark's devices with their one key."""
    known = CredentialsMap()
    known.load_from_dict(
        {
            f":bench-{number}": {
                "dtls": {"psk": {"ascii": key}, "client-identity": {"ascii": f"bench-{number}"}}
            }
            for number in range(DEVICES)
        }
    )
    return known


async def listen(site: Site, port: int, key: str | None) -> aiocoap.Context:
    """Serve on 127.0.0.1: DTLS with that key, or plain UDP when it is None.

    aiocoap's DTLS server adds the distance of the two standard ports to the one it is given.
    """
    if key is None:
        return await aiocoap.Context.create_server_context(
            site, bind=("127.0.0.1", port), transports=["udp6"]
        )
    return await aiocoap.Context.create_server_context(
        site,
        bind=("127.0.0.1", port - (COAPS_PORT - COAP_PORT)),
        transports=["tinydtls_server"],
        server_credentials=credentials(key),
    )


async def main() -> None:
    """Until it is ended."""
    site = Site()
    site.add_resource(["v"], Sink())
    await listen(site, int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
