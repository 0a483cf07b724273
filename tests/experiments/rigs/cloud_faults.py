"""What a cloud store can do wrong, byte by byte, and what the gateway is to make of each: a table.

Four fates. *Retried*: the records wait and are sent again. *Halted*: they wait too, and the state
names a cause that a person must mend; when it is mended they go by themselves. *Quarantined*: the
record that is the cause, and no other, becomes a dead letter with the store's words. *Halved*: sent
again at once, in smaller batches.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from contextlib import contextmanager
from email.utils import formatdate
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from tests.experiments.rigs.cloud_stub import Stub, http, reset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.experiments.rigs.cloud_stub import Fault, Request

ANSWER_LIMIT = 64 << 10
"""Bytes of an answer that are read."""

_HUGE = 100 << 20


class Fate(StrEnum):
    """Of the records of a batch that meets the fault."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    HALTED = "halted"
    HALVED = "halved"
    QUARANTINED = "quarantined"


class Case(NamedTuple):
    """A row of the table. One of ``fault``, ``envelope``, ``poison`` and ``away``."""

    fate: Fate

    fault: Fault | None = None
    """The first answers to each lane."""

    envelope: Fault | None = None
    """The first answers to each key envelope, which goes before the first batch."""

    poison: Fault | None = None
    """The answer to every batch that has a certain record."""

    away: Callable[[Stub], Awaitable[None]] | None = None
    """Nothing gets as far as HTTP. Called once; ``stub.open()`` mends it after ``stub.close()``."""

    hangs: bool = False
    """Only the gateway's own clock ends the request."""

    wish_s: float | None = None
    """The store asks for a pause."""

    host: str = "127.0.0.1"


# --- answers


def _answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    async def fault(_: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, body, **headers))

    return fault


def _words(status: int) -> Fault:
    return _answer(status, json.dumps({"error": "malformed record"}).encode())


def _padded(more: int) -> Fault:
    """Stored, and a good answer of just as many bytes as are read, and some more."""

    async def fault(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
        if more:
            stub.unanswered.update(stub.ids(request))
        writer.write(http(200, stub.store(request).ljust(ANSWER_LIMIT + more)))

    return fault


async def _refusing_one(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    """A verdict on a record of its own, instead of a refusal of the whole."""
    answer = json.loads(stub.store(request))
    for name in answer["stored"][3:4]:
        answer["stored"].remove(name)
        answer["refused"].append({"id": name, "reason": "malformed record"})
    writer.write(http(200, json.dumps(answer).encode()))


async def _another_date(_: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    """A pause of two seconds by a clock that stands in another year."""
    until, now = formatdate(86_402, usegmt=True), formatdate(86_400, usegmt=True)
    writer.write(http(503, Retry_After=until, Date=now))


async def _forgotten(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    names = sorted(epoch.hex() for epoch in stub.envelopes)
    stub.envelopes.clear()
    body = json.dumps({"error": "envelopes first", "missing_epochs": names}).encode()
    writer.write(http(409, body))


# --- instead of answers


async def _late(_: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def _slow(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    answer = http(200, stub.store(request))
    stub.unanswered.update(stub.ids(request))
    for at in range(len(answer)):
        writer.write(answer[at : at + 1])
        await writer.drain()
        await asyncio.sleep(1.0)


async def _half(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    answer = http(200, stub.store(request))
    stub.unanswered.update(stub.ids(request))
    writer.write(answer[: len(answer) - 20])
    await asyncio.sleep(0.01)  # it is to arrive
    reset(writer)


async def _reset_after_storing(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    stub.store(request)
    stub.unanswered.update(stub.ids(request))
    reset(writer)


async def _reset(_: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    """The envelope went over this connection: it was kept, and is dead when the batch comes."""
    reset(writer)


async def _pour(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    await stub.give(writer, http(200, b"", Content_Length=str(_HUGE)))
    for _ in range(_HUGE >> 16):
        await stub.give(writer, bytes(1 << 16))


async def _bomb(stub: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(bytes(16 << 20))
    writer.write(http(200, body, Content_Encoding="gzip"))


async def _no_http(_: Stub, request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()
    writer.close()


# --- before HTTP


async def _closed(stub: Stub) -> None:
    await stub.close()


async def _expired(stub: Stub) -> None:
    await stub.close()
    await stub.open(certificate="expired")


async def _elsewhere(stub: Stub) -> None:
    await stub.close()
    await stub.open(certificate="elsewhere")


async def _unknown(stub: Stub) -> None:
    """See :func:`without_name`."""
    await stub.close()


@contextmanager
def without_name(stubs: Callable[[], set[int]]) -> Iterator[None]:
    """The host of these ports has no address: the failure that the resolver reports."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host == "localhost" and port in stubs():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, port, *rest, **more)

    with patch.object(socket, "getaddrinfo", getaddrinfo):
        yield


_EMPTY = json.dumps({"stored": [], "known": [], "refused": []}).encode()

TABLE: dict[str, Case] = {
    "connection refused": Case(Fate.RETRIED, away=_closed),
    "name not found": Case(Fate.RETRIED, away=_unknown, host="localhost"),
    "certificate expired": Case(Fate.HALTED, away=_expired),
    "certificate of another host": Case(Fate.HALTED, away=_elsewhere),
    "no HTTP": Case(Fate.RETRIED, _no_http),
    "no answer in time": Case(Fate.RETRIED, _late, hangs=True),
    "a byte a second": Case(Fate.RETRIED, _slow, hangs=True),
    "half an answer, then a reset": Case(Fate.RETRIED, _half),
    "reset after the batch was stored": Case(Fate.RETRIED, _reset_after_storing),
    "kept connection reset": Case(Fate.RETRIED, _reset),
    "200 of 64 KiB": Case(Fate.DELIVERED, _padded(0)),
    "200 of a byte more": Case(Fate.RETRIED, _padded(1)),
    "200 of 100 MB": Case(Fate.RETRIED, _pour),
    "200, a gzip bomb": Case(Fate.RETRIED, _bomb),
    "200 that is not JSON": Case(Fate.RETRIED, _answer(200, b"\x00\xffgarbage")),
    "200 of another shape": Case(Fate.RETRIED, _answer(200, b'{"stored": 5}')),
    "200 that names no record": Case(Fate.RETRIED, _answer(200, _EMPTY)),
    "200 that refuses one record": Case(Fate.QUARANTINED, _refusing_one),
    "204": Case(Fate.RETRIED, _answer(204)),
    "301": Case(Fate.HALTED, _answer(301, Location="/elsewhere")),
    "400 for one record": Case(Fate.QUARANTINED, poison=_words(400)),
    "401": Case(Fate.HALTED, _answer(401)),
    "403": Case(Fate.HALTED, _words(403)),
    "404": Case(Fate.HALTED, _answer(404)),
    "408": Case(Fate.RETRIED, _answer(408)),
    "409 that names missing envelopes": Case(Fate.DELIVERED, _forgotten),
    "409 that names nothing": Case(Fate.RETRIED, _answer(409)),
    "413": Case(Fate.HALVED, _answer(413)),
    "413 for one record": Case(Fate.QUARANTINED, poison=_words(413)),
    "422 for one record": Case(Fate.QUARANTINED, poison=_words(422)),
    "429": Case(Fate.RETRIED, _answer(429)),
    "429 with Retry-After": Case(Fate.RETRIED, _answer(429, Retry_After="1"), wish_s=1.0),
    "500": Case(Fate.RETRIED, _answer(500)),
    "502": Case(Fate.RETRIED, _answer(502)),
    "503": Case(Fate.RETRIED, _answer(503)),
    "403 to an envelope": Case(Fate.HALTED, envelope=_words(403)),
    "500 to an envelope": Case(Fate.RETRIED, envelope=_answer(500)),
    "no answer to an envelope": Case(Fate.RETRIED, envelope=_late, hangs=True),
    "503 with a date": Case(Fate.RETRIED, _another_date, wish_s=2.0),
}
