"""HTTPS for a sink: one session and one connector, one lane's alone.

The pool is the lane's own, so routine uploads cannot hold the connection that an alarm needs.
aiohttp repeats a PUT once by itself when a kept connection turns out dead, and a POST never: the
pump repeats those, and record ids make both harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from gateway.errors import TransientDeliveryError
from gateway.lane import Lane
from gateway.sinks import NotWelcomeError, SinkFaultError
from gateway.sinks.answers import Answer
from gateway.sinks.resolving import Resolver

if TYPE_CHECKING:
    import ssl

ANSWER_LIMIT = 64 << 10
"""Bytes of an answer that are read: the verdicts on 500 records take 18 KiB, a refusal with its
reason some hundred bytes. A batch whose answer is longer is halved, as one that breaks the sink."""

CONNECTIONS = 8
"""Of one lane: envelopes go side by side, batches one after the other."""

TIMEOUTS = {
    # An alarm would rather try again on a new connection than wait.
    Lane.EMERGENCY: aiohttp.ClientTimeout(total=5.0, sock_connect=2.0, sock_read=4.0),
    Lane.ROUTINE: aiohttp.ClientTimeout(total=60.0, sock_connect=10.0, sock_read=30.0),
}


class Transport:
    """Requests below one address."""

    def __init__(
        self,
        url: str,
        lane: Lane,
        ssl_context: ssl.SSLContext | None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """``timeout_s``: of a whole request, instead of the lane's own."""
        self._url = url.rstrip("/")
        self._ssl = ssl_context
        self._timeout = (
            TIMEOUTS[lane] if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s)
        )
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Needs a running event loop. Connects nothing."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=True if self._ssl is None else self._ssl,
                limit=CONNECTIONS,
                resolver=Resolver(),
            ),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer could unfold without bound
            trust_env=False,
            headers={"User-Agent": "ward-gateway", "Accept-Encoding": "identity"},
        )

    async def request(
        self, method: str, path: str, body: bytes = b"", content_type: str | None = None
    ) -> Answer:
        """One request, no redirect followed, the answer's body bounded.

        Raises:
            TransientDeliveryError: no answer, or none that is HTTP; NotWelcomeError when TLS
                refuses one side's certificate.
        """
        if self._session is None:
            raise TransientDeliveryError("the connection is closed")
        headers = {} if content_type is None else {"Content-Type": content_type}
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers=headers, allow_redirects=False
            ) as response:
                received = bytearray()
                async for chunk in response.content.iter_any():
                    received += chunk
                    if len(received) > ANSWER_LIMIT:
                        response.close()
                        raise SinkFaultError(f"an answer of more than {ANSWER_LIMIT} bytes")
                return Answer(response.status, response.headers, bytes(received))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise NotWelcomeError(f"TLS: {error}") from error
        except TimeoutError as error:
            raise TransientDeliveryError(f"{self._url}: no answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: a header or URL that aiohttp cannot parse comes as one.
            raise TransientDeliveryError(
                f"{self._url}: {type(error).__name__}: {error}".rstrip(": ")
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
