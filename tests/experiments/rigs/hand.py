"""A node made by hand, in virtual time: its address stays, its associations come and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.coap.message import Message, decode_untrusted, encode
from gateway.coap.numbers import Code, Option, Type
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from tests.experiments.rigs.virtual import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.experiments.rigs.virtual import Inside


class Hand(asyncio.DatagramProtocol):
    """Open with :meth:`open`, then :meth:`shake_hands` as often as the node starts."""

    def __init__(self, device: str) -> None:
        self._engines = OpensslClient(device.encode(), KEY, psk_suites())
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport
        self._client: Client | None = None
        self._changed = asyncio.Event()
        self.heard: list[bytes] = []
        """CoAP messages of the gateway."""

    @classmethod
    async def open(cls, inside: Inside, device: str) -> Hand:
        hand = cls(device)
        hand._transport, _ = await hand._loop.create_datagram_endpoint(
            lambda: hand, remote_addr=("127.0.0.1", inside.port)
        )
        await hand.shake_hands()
        return hand

    async def shake_hands(self) -> None:
        """As after a restart: nothing of what was before is known."""
        client = self._client = Client(self._engines, mtu=1232, now=self._loop.time())
        self.heard.clear()
        while client.association is None:
            self._flush()
            await self._next()
        self._flush()

    def protect(self, message: bytes) -> bytes:
        """A datagram, to be put on the wire at any time."""
        assert self._client is not None
        self._client.send(message)
        return self._client.outgoing.pop()

    def write(self, datagram: bytes) -> None:
        self._transport.sendto(datagram)

    def send(self, message: bytes) -> None:
        self.write(self.protect(message))

    async def ask(self, message: bytes) -> Message:
        """The next message that the gateway sends, within ten seconds."""
        self.heard.clear()
        self.send(message)
        async with asyncio.timeout(10):
            while not self.heard:
                await self._next()
        return decode_untrusted(self.heard[0])

    def close(self) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        assert self._client is not None
        self.heard += self._client.receive(data, self._loop.time())
        self._changed.set()

    async def _next(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _flush(self) -> None:
        assert self._client is not None
        out, self._client.outgoing = self._client.outgoing, []
        for datagram in out:
            self.write(datagram)


def request(
    code: Code,
    path: Sequence[str],
    mid: int,
    *,
    payload: bytes = b"",
    block: tuple[int, bool] | None = None,
) -> bytes:
    """A Confirmable message, its token made from its Message ID. block: number and More, of 64
    bytes (szx 2)."""
    options = [(int(Option.URI_PATH), one.encode()) for one in path]
    if payload:
        options.append((int(Option.CONTENT_FORMAT), bytes([112])))
    if block is not None:
        number, more = block
        options.append((int(Option.BLOCK1), bytes([number << 4 | more << 3 | 2])))
    token = mid.to_bytes(2, "big")
    return encode(Message(Type.CON, code, mid, token, tuple(options), payload))
