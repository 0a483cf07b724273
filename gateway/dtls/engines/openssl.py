"""The handshake by OpenSSL, as bundled with `cryptography` and driven through pyOpenSSL.

The only module that imports either for TLS. pyOpenSSL has no API for pre-shared keys, so the two
callbacks are set through its private binding; exact pins in pyproject.toml and a real handshake of
every suite at start (selftest.py) stand against a release that changes it.

What has to be told to OpenSSL, and why:

- Version pinned to 1.2: later releases make DTLS 1.3 the default of the same method.
- ``@SECLEVEL=0``: at higher levels CCM_8 is listed and then fails (openssl issue 20115). The suites
  are named one by one, so the level lets nothing else in.
- ``OP_NO_QUERY_MTU`` and ``set_ciphertext_mtu``: there is no socket to ask.
- No tickets, no session cache: resumption skips the PSK callback, so the association would have no
  identity. No renegotiation.
- A Context is frozen by its first Connection; new credentials settings mean a new Context.
- No exception may leave a callback: OpenSSL would go on with an undefined result.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from gateway.dtls.records import HANDSHAKE, HEADER_LENGTH, SUITES, RecordKeys, derive_keys
from gateway.errors import DtlsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dtls.credentials import Credentials

_DTLS_1_2: Final = 0xFEFD
_RELEASE_BUFFERS: Final = 0x10
"""SSL_MODE_RELEASE_BUFFERS: a third less memory while a handshake waits."""

_PSK_SERVER: Final = "unsigned int(SSL*, const char*, unsigned char*, unsigned int)"
_PSK_CLIENT: Final = (
    "unsigned int(SSL*, const char*, char*, unsigned int, unsigned char*, unsigned int)"
)
_BIO_READ_SIZE: Final = 65536
_SUITE_NAMES: Final = {suite.number: name for name, suite in SUITES.items()}


class HandshakeError(DtlsError):
    """OpenSSL has given the handshake up; what it wants to say about that is in ``flight``."""


def _context(method: int, suites: Iterable[str]) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_cipher_list((":".join(suites) + ":@SECLEVEL=0").encode())
    context.set_options(
        SSL.OP_NO_QUERY_MTU
        | SSL.OP_NO_TICKET
        | SSL.OP_CIPHER_SERVER_PREFERENCE
        | SSL.OP_NO_RENEGOTIATION
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(_RELEASE_BUFFERS)
    return context


class OpensslEngine:
    """One handshake (see :class:`gateway.dtls.engines.Engine`)."""

    def __init__(self, connection: SSL.Connection, role: _Role) -> None:
        self._connection = connection
        self._role = role
        self._done = False
        self._listening = role.server
        self._device: str | None = None
        self._suite: str | None = None

    def feed(self, datagram: bytes) -> None:
        """Take in handshake records, one datagram at a time: a memory BIO is a byte stream."""
        self._role.device = None
        if datagram:
            self._connection.bio_write(datagram)
        try:
            if self._listening:
                self._connection.DTLSv1_listen()
                self._listening = False
            self._connection.do_handshake()
            self._done = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise HandshakeError(_words(error)) from None
        finally:
            if self._role.device is not None:
                self._device = self._role.device

    def flight(self) -> bytes:
        """The records to send, in one piece."""
        try:
            flight: bytes = self._connection.bio_read(_BIO_READ_SIZE)
        except SSL.WantReadError:
            return b""
        if self._suite is None:
            self._suite = _chosen_suite(flight)
        return flight

    def done(self) -> bool:
        """True once both Finished messages have been seen."""
        return self._done

    def device(self) -> str | None:
        """The device whose key the peer has named."""
        return self._device

    def keys(self) -> RecordKeys | None:
        """Record keys once ClientKeyExchange has been processed."""
        # OpenSSL names the suite only at the end; a server has written it into its ServerHello.
        suite = self._connection.get_cipher_name() or self._suite
        try:
            master = self._connection.master_key()
        except SSL.Error:  # there is a session, but no secret in it yet
            return None
        client_random = self._connection.client_random()
        server_random = self._connection.server_random()
        if suite is None or master is None or client_random is None or server_random is None:
            return None
        return derive_keys(suite, master, client_random, server_random)


class _Role:
    """What the engines of one context share: the context and the name found by its callback.

    The callback runs inside ``feed`` of one engine, so one slot is enough.
    """

    server: bool

    def __init__(self) -> None:
        self.device: str | None = None


class OpensslServer(_Role):
    """Makes engines that accept handshakes with the given credentials.

    secret: random bytes; unknown identities get a key made from it, so that an unknown name and a
    wrong key look alike from outside (RFC 4279 section 2 allows it).
    """

    server = True

    def __init__(self, credentials: Credentials, secret: bytes, suites: Iterable[str]) -> None:
        super().__init__()
        self._credentials = credentials
        self._secret = secret
        self._context = _context(SSL.DTLS_SERVER_METHOD, suites)
        self._context.set_cookie_generate_callback(lambda connection: b"unused")
        # Our own cookie was checked before OpenSSL saw the hello (cookie.py).
        self._context.set_cookie_verify_callback(lambda connection, cookie: True)
        self._callback = ffi.callback(_PSK_SERVER, self._psk, error=0)
        lib.SSL_CTX_set_psk_server_callback(self._context._context, self._callback)

    def _psk(self, ssl: object, identity: ffi.CData, out: ffi.CData, room: int) -> int:
        name = ffi.string(identity)
        found = self._credentials.psk(name)
        if found is None:
            key = hmac.digest(self._secret, name, hashlib.sha256)[:16]
        else:
            self.device, key = found.device, found.key
        if len(key) > room:
            return 0
        ffi.memmove(out, key, len(key))
        return len(key)

    def engine(self, mtu: int) -> OpensslEngine:
        """A new handshake. mtu: largest UDP payload to send."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.set_ciphertext_mtu(mtu)
        return OpensslEngine(connection, self)


class OpensslClient(_Role):
    """Makes engines that open handshakes as one device: the node's side."""

    server = False

    def __init__(self, identity: bytes, key: bytes, suites: Iterable[str]) -> None:
        super().__init__()
        self._identity, self._key = identity, key
        self._context = _context(SSL.DTLS_CLIENT_METHOD, suites)
        self._callback = ffi.callback(_PSK_CLIENT, self._psk, error=0)
        lib.SSL_CTX_set_psk_client_callback(self._context._context, self._callback)

    def _psk(
        self, ssl: object, hint: object, name: ffi.CData, name_room: int, out: ffi.CData, room: int
    ) -> int:
        if len(self._identity) >= name_room or len(self._key) > room:
            return 0
        ffi.memmove(name, self._identity + b"\0", len(self._identity) + 1)
        ffi.memmove(out, self._key, len(self._key))
        return len(self._key)

    def engine(self, mtu: int) -> OpensslEngine:
        """A new handshake. mtu: largest UDP payload to send."""
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        connection.set_ciphertext_mtu(mtu)
        return OpensslEngine(connection, self)


def psk_suites() -> list[str]:
    """The suites that authenticate by pre-shared key, best first."""
    return [name for name in SUITES if "PSK" in name]


def _chosen_suite(flight: bytes) -> str | None:
    """The suite named by a ServerHello at the head of our own flight (RFC 5246 section 7.4.1.3)."""
    body = HEADER_LENGTH + 12
    if len(flight) <= body + 34 or flight[0] != HANDSHAKE or flight[HEADER_LENGTH] != 2:
        return None
    at = body + 35 + flight[body + 34]
    return _SUITE_NAMES.get(int.from_bytes(flight[at : at + 2], "big"))


def _words(error: SSL.Error) -> str:
    # Most errors carry OpenSSL's queue; a SysCallError a number and a text.
    queue = error.args[0] if error.args else None
    if not isinstance(queue, list):
        return " ".join(str(part) for part in error.args[1:]) or type(error).__name__
    return "; ".join(entry[-1] for entry in queue if entry[-1]) or type(error).__name__
