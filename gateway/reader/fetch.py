"""The HTTPS client of the cloud store, with the recipient's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import aiohttp

from gateway.errors import ConfigError, GatewayError, PeerError
from gateway.reader.pages import Page, page_untrusted

if TYPE_CHECKING:
    from types import TracebackType

    from gateway.lane import Lane
    from gateway.reader.profile import Profile

PAGE_RECORDS = 500

MAX_PAGE_BYTES = 32 << 20
"""The store ends a page after 8 MiB of records: base64 adds a third, the headers some more."""

MAX_ENVELOPE_BYTES = 64 << 10

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=30)
_NOT_FOUND = 404
_OK = 200


class CloudUnreachable(GatewayError):
    """No answer, or none that helps: later may be better."""

    kind = "cloud_unreachable"


class CloudRefused(GatewayError):
    """The store has understood and will not: asking again does not help."""

    kind = "cloud_refused"


class CloudClient:
    """Use as an asynchronous context manager. Raises ConfigError for a profile without its files.

    Every request raises CloudUnreachable or CloudRefused.
    """

    def __init__(self, profile: Profile) -> None:
        self._address = profile.cloud
        self._context = _tls(profile)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> CloudClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=2),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def page(self, *, after: int, lane: Lane | None) -> Page:
        """The next records above the cursor ``after``."""
        query = {"after": str(after), "limit": str(PAGE_RECORDS)}
        if lane is not None:
            query["lane"] = lane.value
        body = await self._get("/v1/records", query, MAX_PAGE_BYTES)
        if body is None:
            raise CloudRefused(f"{self._address} is not a cloud store: it has no /v1/records")
        try:
            return page_untrusted(body, after=after)
        except PeerError as error:
            raise CloudRefused(f"{self._address} answers what cannot be read: {error}") from error

    async def epoch(self, epoch: bytes) -> bytes | None:
        """An envelope; None if there is none for this recipient."""
        return await self._get(f"/v1/epochs/{epoch.hex()}", {}, MAX_ENVELOPE_BYTES)

    async def _get(self, path: str, query: dict[str, str], limit: int) -> bytes | None:
        try:
            async with self._session.get(
                self._address + path, params=query, allow_redirects=False
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > limit:
                        raise CloudRefused(f"{self._address} answers with more than {limit} bytes")
        except aiohttp.ClientConnectorCertificateError as error:
            raise CloudRefused(
                f"{self._address} has no certificate of this ward: {error.certificate_error}"
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise CloudUnreachable(f"{self._address} cannot be reached: {reason}") from error
        if response.status == _OK:
            return bytes(body)
        if response.status == _NOT_FOUND:
            return None
        words = bytes(body[:500]).decode(errors="replace")
        kind = CloudUnreachable if response.status >= 500 else CloudRefused
        raise kind(f"{self._address} answers {response.status}: {words}")


def _tls(profile: Profile) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=profile.authority)
        context.load_cert_chain(profile.certificate, profile.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [f"{profile.folder}: ca.pem, tls.pem and tls.key cannot be used: {error}"]
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
