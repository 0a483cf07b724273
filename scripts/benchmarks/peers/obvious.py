"""The obvious gateway: what one writes in an afternoon with aiocoap, cbor2 and aiohttp.

A CoAP handler decodes the pack, checks that the device speaks for itself, posts it to the store as
JSON and answers when the store has it. Written as a competent user would: one session with kept
connections, a time limit, errors told to the node as 5.02 or 5.04. It ends DTLS by the only server
that aiocoap has, tinydtls_server. It has no queue, no triage, and seals nothing.

Arguments: port, key, the store's address.
"""

from __future__ import annotations

import asyncio
import sys

import aiocoap
import aiohttp
import cbor2
from aiocoap.resource import Resource, Site
from aiocoap_server import listen

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Vitals(Resource):  # type: ignore[misc]  # aiocoap has no types
    """Forwards packs."""

    def __init__(self, session: aiohttp.ClientSession, store: str) -> None:
        super().__init__()
        self._session = session
        self._store = store

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """2.04 when the store has taken the pack."""
        try:
            pack = cbor2.loads(request.payload)
            (device,) = request.remote.authenticated_claims
            name = pack[0][-2]
        except (cbor2.CBORDecodeError, LookupError, TypeError, ValueError):
            return aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=b"no SenML pack")
        if name.rstrip("/") != device.lstrip(":"):
            return aiocoap.Message(code=aiocoap.FORBIDDEN)
        try:
            async with self._session.post(
                self._store, json={"device": device, "pack": [list(one.items()) for one in pack]}
            ) as answer:
                if answer.status < 300:
                    return aiocoap.Message(code=aiocoap.CHANGED)
                return aiocoap.Message(code=aiocoap.BAD_GATEWAY)
        except TimeoutError:
            return aiocoap.Message(code=aiocoap.GATEWAY_TIMEOUT)
        except aiohttp.ClientError:
            return aiocoap.Message(code=aiocoap.BAD_GATEWAY)


async def main() -> None:
    """Until it is ended."""
    port, key, store = sys.argv[1:]
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        site = Site()
        site.add_resource(["v"], Vitals(session, store))
        await listen(site, int(port), key)
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
