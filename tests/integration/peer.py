"""A whole gateway in this process, and a node made by hand that may send it anything."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import cbor2

from gateway import control
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type, dotted
from gateway.coap.options import uint
from gateway.config import loading
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from pathlib import Path

CBOR, JSON = 112, 110
KEY = b"0123456789abcdef"
WITHIN_S = 10.0
GOOD = cbor2.dumps([{0: "hr", 1: "1/min", 2: 72}])


class Running:
    """A gateway in a thread of its own, so that a test can be as blunt as a socket."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.state = folder / "state"
        environment = {"WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0", **environment}
        self._loaded = loading.load(folder / "gateway.toml", environment)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway")
        self._thread.start()
        assert self._started.wait(WITHIN_S)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        gateway = Gateway(self._loaded, SystemClock())
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        try:
            await gateway.start()
            host, _, port = gateway.addresses[0].rpartition(":")
            self.address = (host, int(port))
            self._started.set()
            await self._done.wait()
        finally:
            await gateway.stop()

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = control.ask(self.state, "status")
        return status

    def bugs(self) -> int:
        counted: int = self.status()["messages"].get("bug", 0)
        return counted

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        assert self._failure is None


class Peer:
    """A node made by hand: every byte that it sends is the test's."""

    def __init__(self, address: tuple[str, int], device: str = "") -> None:
        self.device = device
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(address)
        self._client: Client | None = None
        self._heard: list[bytes] = []
        self._separate: set[int] = set()
        """Message IDs of separate answers, which come again until their ACK has arrived."""
        self._mid = 0

    def close(self) -> None:
        self._socket.close()

    def shared_port(self) -> int:
        """Its port, which another socket may have from now on, too."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port: int = self._socket.getsockname()[1]
        return port

    def say_goodbye(self) -> None:
        """close_notify, if there is an association."""
        if self._client is not None and self._client.association is not None:
            self.send(self._client.association.close())

    # -- datagrams

    def send(self, datagram: bytes) -> None:
        self._socket.send(datagram)

    def receive(self, within_s: float = WITHIN_S) -> bytes | None:
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(65_535)
        except (TimeoutError, BlockingIOError):
            return None

    def lying(self) -> list[bytes]:
        """The datagrams that are here, unread by anybody."""
        found = []
        while (datagram := self.receive(0.0)) is not None:
            found.append(datagram)
        return found

    # -- an association

    def shake_hands(self, key: bytes = KEY, identity: str | None = None) -> list[bytes]:
        """The gateway's datagrams. Raises DtlsError."""
        name = self.device if identity is None else identity
        engines = OpensslClient(name.encode(), key, psk_suites())
        client = Client(engines, mtu=1232, now=time.monotonic())
        got = []
        while client.association is None:
            self.flush(client)
            datagram = self.receive(client.get_timer() - time.monotonic())  # type: ignore[operator]
            if datagram is None:
                client.handle_timer(time.monotonic())
                continue
            got.append(datagram)
            try:
                client.receive(datagram, time.monotonic())
            except DtlsError:
                self.refusal = datagram
                raise
        self.flush(client)
        self._client = client
        return got

    def flush(self, client: Client) -> None:
        for datagram in client.outgoing:
            self.send(datagram)
        client.outgoing.clear()

    def protect(self, plaintext: bytes) -> bytes:
        """One record, not sent."""
        assert self._client is not None
        self._client.send(plaintext)
        return self._client.outgoing.pop()

    def say(self, plaintext: bytes) -> None:
        self.send(self.protect(plaintext))

    def hear(self, within_s: float = WITHIN_S) -> bytes:
        """The next plaintext."""
        assert self._client is not None
        while not self._heard:
            datagram = self.receive(within_s)
            assert datagram is not None, "no answer"
            self._heard += self._client.receive(datagram, time.monotonic())
        return self._heard.pop(0)

    def answer(self, mid: int, within_s: float = WITHIN_S) -> Message:
        """To the request with this Message ID. One that comes separately, because the disk was
        slow, is acknowledged and given as if it had not (RFC 7252 section 5.2.2)."""
        acknowledged = False
        while True:
            got = wire.decode_untrusted(self.hear(within_s))
            if got.type is Type.CON:
                self.say(wire.empty_ack(got.mid))
                if got.mid in self._separate:
                    continue
                self._separate.add(got.mid)
            if (got.type, got.code, got.mid) == (Type.ACK, Code.EMPTY, mid) and not acknowledged:
                acknowledged = True
                continue
            return got._replace(type=Type.ACK, mid=mid) if got.type is Type.CON else got

    # -- messages

    def next_mid(self) -> int:
        self._mid += 1
        return self._mid

    def request(
        self,
        path: str,
        payload: bytes = b"",
        content_format: int | None = CBOR,
        *,
        kind: Type = Type.CON,
        code: int = Code.POST,
        more: tuple[tuple[int, bytes], ...] = (),
    ) -> Message:
        """One request and its answer, which belongs to it by its token and its Message ID."""
        options = [(int(Option.URI_PATH), part.encode()) for part in path.split("/")]
        if content_format is not None:
            options.append((int(Option.CONTENT_FORMAT), uint(content_format)))
        mid = self.next_mid()
        token = b"t" + mid.to_bytes(2, "big")
        asked = Message(
            kind,
            code,
            mid,
            token,
            tuple(sorted([*options, *more], key=lambda one: one[0])),
            payload,
        )
        self.say(wire.encode(asked))
        answer = self.answer(mid)
        assert answer.token == token, "an answer to something else"
        if kind is Type.CON:
            assert (answer.type, answer.mid) == (Type.ACK, mid)
        else:
            assert answer.type is Type.NON
        return answer

    def hears(self) -> list[bytes]:
        """What comes before the answer to a ping: all that was answered at once."""
        mid = self.next_mid()
        self.say(wire.encode(Message(Type.CON, Code.EMPTY, mid)))
        heard = []
        while (one := self.hear()) != wire.reset(mid):
            heard.append(one)
        return heard

    def is_silent(self) -> None:
        """Nothing came for what was sent before this."""
        assert self.hears() == []

    def is_well(self) -> None:
        """A good request works."""
        answer = self.request("v", GOOD)
        assert dotted(answer.code) == "2.04", answer
