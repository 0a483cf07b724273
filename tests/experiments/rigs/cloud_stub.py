"""A cloud store that keeps what it takes and can be told to misbehave, byte by byte.

It speaks HTTP over TLS by hand, because a server that works would not do what is wanted here: half
an answer, a reset instead of one, a byte a second. It has the ward's own certificate, asks for the
gateway's, checks every batch's signature and remembers what no gateway may do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
import time
from collections import Counter, deque
from email.utils import formatdate
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from certs import files
from certs.authority import Authority
from certs.profiles import CLOUD_STORE
from gateway.cose.record import decode_batch_untrusted
from gateway.errors import PeerError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gateway.cose.record import Header

    Fault = Callable[["Stub", "Request", asyncio.StreamWriter], Awaitable[None]]
    """Answers a request, or whatever it does instead."""

PATHS = {"/v1/alarms": Lane.EMERGENCY, "/v1/records": Lane.ROUTINE}
_HEAD = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SEND_BUFFER = 64 << 10
"""Small: what the gateway does not read is to stay here, and to be counted as not given."""


class Request(NamedTuple):
    """One request, whole."""

    method: str
    path: str
    body: bytes
    records: list[tuple[Header, bytes]]
    """Of a batch, whose signature is checked."""


class Stub:
    """``async with``; then :attr:`url`.

    Before it is stored, a batch meets the next fault of its lane's :attr:`script`; then
    :attr:`answer`, if it is set, answers instead of the store. An envelope meets :attr:`refusal`
    so many times as :attr:`refusals` says.
    """

    def __init__(self, ward: Path, *, host: str = "127.0.0.1") -> None:
        """``ward``: the folder of a ward that :mod:`gateway.provision` has made."""
        self._ward = ward
        self._gateway = files.load_certificate(ward / "keys" / "gateway.pem").public_key()
        self._host = host
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.script: dict[Lane, deque[Fault]] = {lane: deque() for lane in Lane}
        self.answer: Callable[[Lane, list[bytes]], Fault | None] = lambda lane, ids: None
        """Lane and ids of a batch -> what happens to it instead of storing; None: stored."""

        self.refusal: Fault | None = None
        self.refusals = 0
        self._refused: Counter[str] = Counter()

        self.batches: Counter[Lane] = Counter()
        """Those that came, stored or not."""
        self.arrivals: Counter[bytes] = Counter()
        """Record id -> how often it was stored or found to be known."""
        self.order: list[tuple[bytes, Lane, float]] = []
        """Of what was stored: id, lane, monotonic seconds."""
        self.unanswered: Counter[bytes] = Counter()
        """Record id -> how often it was stored without an answer that says so."""
        self.given = 0
        """Bytes of faults that the other side has taken, or its kernel for it."""
        self.wrong: list[str] = []
        """What no gateway may do."""
        self._records: dict[bytes, bytes] = {}
        self.envelopes: dict[bytes, bytes] = {}
        """Epoch -> message."""
        self.kept: list[tuple[Header, bytes]] = []
        """All that was stored, in order, where :attr:`keeps`."""
        self.keeps = False

    @property
    def url(self) -> str:
        return f"https://{self._host}:{self.port}"

    @property
    def stored(self) -> set[bytes]:
        """Record ids."""
        return set(self._records)

    async def __aenter__(self) -> Stub:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- listening

    async def open(self, *, certificate: str = "cloud") -> None:
        """At the port that it had, if it had one. ``certificate``: a name in the ward's keys."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        keys = self._ward / "keys"
        context.load_cert_chain(keys / f"{certificate}.pem", keys / f"{certificate}.key")
        context.load_verify_locations(self._ward / "ca" / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=context)

    async def close(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            reset(writer)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while not writer.is_closing():
                await self._treat(await _read(reader), writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the stub closes
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            if not writer.transport.is_closing():
                writer.transport.abort()

    async def _treat(self, request: Request, writer: asyncio.StreamWriter) -> None:
        method, path, body, _ = request
        if method == "POST" and path in PATHS:
            lane = PATHS[path]
            self.batches[lane] += 1
            request = request._replace(records=self._checked(request))
            ids = self.ids(request)
            fault = self.script[lane].popleft() if self.script[lane] else self.answer(lane, ids)
            if fault is not None:
                await fault(self, request, writer)
            else:
                writer.write(http(200, self.store(request)))
        elif method == "PUT" and self.refusal and self._refused[path] < self.refusals:
            self._refused[path] += 1
            await self.refusal(self, request, writer)
        elif method == "PUT" and path.startswith("/v1/epochs/"):
            self.envelopes[bytes.fromhex(path.rpartition("/")[2])] = body
            writer.write(http(201))
        elif (method, path) == ("GET", "/v1/healthz"):
            writer.write(http(200, b"{}"))
        else:
            self.wrong.append(f"{method} {path}: nothing like it is ever asked")
            writer.write(http(404))

    def _checked(self, request: Request) -> list[tuple[Header, bytes]]:
        try:
            records = decode_batch_untrusted(request.body, self._gateway, gateway="gateway")
        except PeerError as error:
            self.wrong.append(f"a batch that cannot be taken: {error}")
            return []
        lane = PATHS[request.path]
        for header, record in records:
            if header.lane is not lane:
                self.wrong.append(f"a record of the other lane in {request.path}")
            digest = sha256(record).digest()[:8]
            if self._records.get(header.id, digest) != digest:
                self.wrong.append("two records under one id")
        return records

    def ids(self, request: Request) -> list[bytes]:
        """Of a batch."""
        return [header.id for header, _ in request.records]

    def store(self, request: Request) -> bytes:
        """The batch is durable; the body of the answer that says so."""
        lane, now = PATHS[request.path], time.monotonic()
        answer: dict[str, list[str]] = {"stored": [], "known": [], "refused": []}
        for header, record in request.records:
            self.arrivals[header.id] += 1
            if header.id in self._records:
                answer["known"].append(header.id.hex())
                continue
            self._records[header.id] = sha256(record).digest()[:8]
            self.order.append((header.id, lane, now))
            if self.keeps:
                self.kept.append((header, record))
            answer["stored"].append(header.id.hex())
        return json.dumps(answer).encode()

    async def give(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Write, and count what was taken."""
        writer.write(data)
        await writer.drain()
        self.given += len(data)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    line, length = _HEAD.match(head), _LENGTH.search(head)
    if line is None:
        raise OSError("no HTTP")
    body = await reader.readexactly(int(length[1])) if length else b""
    return Request(line[1].decode(), line[2].decode(), body, [])


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer. ``Retry_After`` stands for ``Retry-After``."""
    named = {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True)}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


def reset(writer: asyncio.StreamWriter) -> None:
    """RST at once, also before what was written."""
    one = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if not writer.transport.is_closing():
        writer.transport.abort()


def make_certificate(ward: Path, name: str, *, host: str, wall: float) -> None:
    """Another certificate of the ward's authority for a cloud store, in the ward's keys."""
    key = files.generate()
    certificate = Authority.load(ward / "ca").issue(
        CLOUD_STORE, name, key.public_key(), wall=wall, hosts=(host,)
    )
    files.write_private(ward / "keys" / f"{name}.key", key)
    files.write_certificate(ward / "keys" / f"{name}.pem", certificate)
