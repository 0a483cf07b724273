"""The handshake by OpenSSL, as bundled with `cryptography` and driven through pyOpenSSL.

The only module that imports either for TLS. pyOpenSSL has no API for pre-shared keys, for
signature algorithms or for saying why a certificate is refused, so these go through its private
binding; exact pins in pyproject.toml and a real handshake of every suite at start (selftest.py)
stand against a release that changes it.

What has to be told to OpenSSL, and why:

- Version pinned to 1.2: later releases make DTLS 1.3 the default of the same method.
- ``@SECLEVEL=0``: at higher levels CCM_8 is listed and then fails (openssl issue 20115). The suites
  are named one by one, so the level lets nothing else in.
- ``OP_NO_QUERY_MTU`` and ``set_ciphertext_mtu``: there is no socket to ask.
- No tickets, no session cache: resumption skips the PSK callback, so the association would have no
  identity. No renegotiation.
- A Context is frozen by its first Connection; new credentials settings mean a new Context.
- No exception may leave a callback: OpenSSL would go on with an undefined result.
- Certificates: P-256 and ECDSA with SHA-256 only (RFC 7925 section 4.4), named here because level 0
  would take less. OpenSSL checks signatures, dates and key usage against the one authority and
  chooses the alert; whether the bearer may come, the roster says (`Credentials.bearer`).
- A server asks for a certificate in suites that have one; a node without is refused. No list of
  authorities goes with the request: there is one, and its name would cost every flight its length.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib

from certs.profiles import GATEWAY
from certs.verify import role_of
from gateway.dtls.credentials import Refusal
from gateway.dtls.flights import chosen_suite
from gateway.dtls.records import SUITES, RecordKeys, derive_keys
from gateway.errors import DtlsError, ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography import x509

    from gateway.dtls.credentials import Credentials, Identity

_DTLS_1_2: Final = 0xFEFD
_RELEASE_BUFFERS: Final = 0x10
"""SSL_MODE_RELEASE_BUFFERS: a third less memory while a handshake waits."""

_PSK_SERVER: Final = "unsigned int(SSL*, const char*, unsigned char*, unsigned int)"
_PSK_CLIENT: Final = (
    "unsigned int(SSL*, const char*, char*, unsigned int, unsigned char*, unsigned int)"
)
_COOKIE: Final = "int(SSL*, const unsigned char*, unsigned int)"
_VERIFY: Final = "int(int, X509_STORE_CTX*)"
_CURVE: Final = b"P-256"
_SIGNATURE: Final = b"ECDSA+SHA256"
_ERRORS: Final = {
    Refusal.WRONG_ROLE: lib.X509_V_ERR_INVALID_PURPOSE,
    Refusal.WITHDRAWN: lib.X509_V_ERR_CERT_REVOKED,
}
"""What OpenSSL is told; it sends unsupported_certificate and certificate_revoked (RFC 5246 section
7.2.2)."""
_ROOM: Final = 65536
"""Bytes of a flight, at most."""
_MEMORY: Final = lib.BIO_s_mem()


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
    if not (
        lib.SSL_CTX_set1_curves_list(context._context, _CURVE)
        and lib.SSL_CTX_set1_sigalgs_list(context._context, _SIGNATURE)
    ):
        raise DtlsError("OpenSSL does not know P-256 or ECDSA with SHA-256")
    return context


class OpensslEngine:
    """One handshake (see :class:`gateway.dtls.engines.Engine`).

    Not a ``SSL.Connection``: its exceptions, buffers and tables were a fifth of a handshake's CPU.
    """

    def __init__(self, role: _Role, mtu: int) -> None:
        self._role = role
        self._ssl = ffi.gc(lib.SSL_new(role.context._context), lib.SSL_free)
        self._in, self._out = lib.BIO_new(_MEMORY), lib.BIO_new(_MEMORY)
        if ffi.NULL in (self._ssl, self._in, self._out):
            raise MemoryError("OpenSSL has no memory for a handshake")
        lib.SSL_set_bio(self._ssl, self._in, self._out)  # which frees them with itself
        if role.server:
            lib.SSL_set_accept_state(self._ssl)
        else:
            lib.SSL_set_connect_state(self._ssl)
        lib.SSL_set_mtu(self._ssl, mtu)
        self._done = False
        self._listening = role.server
        self._device: str | None = None
        self._suite: str | None = None

    def feed(self, datagram: bytes) -> None:
        """Take in handshake records, one datagram at a time: a memory BIO is a byte stream."""
        role = self._role
        role.device = None
        if datagram:
            lib.BIO_write(self._in, datagram, len(datagram))
        if self._listening:
            found = lib.DTLSv1_listen(self._ssl, role.peer)
            if found < 0:
                self._tell(found)
            if found <= 0:
                return
            self._listening = False
        result = lib.SSL_do_handshake(self._ssl)
        if role.device is not None:
            self._device = role.device
        if result == 1:
            self._done = True
        else:
            self._tell(result)

    def _tell(self, result: int) -> None:
        """Raise HandshakeError, unless OpenSSL only waits for more."""
        if lib.SSL_get_error(self._ssl, result) != lib.SSL_ERROR_WANT_READ:
            raise HandshakeError(_words())

    def flight(self) -> bytes:
        """The records to send, in one piece."""
        room = self._role.room
        length = lib.BIO_read(self._out, room, _ROOM)
        if length <= 0:
            return b""
        flight: bytes = ffi.buffer(room, length)[:]
        if self._suite is None:
            self._suite = chosen_suite(flight)
        return flight

    def done(self) -> bool:
        """True once both Finished messages have been seen."""
        return self._done

    def device(self) -> str | None:
        """The device whose key the peer has named."""
        return self._device

    def keys(self) -> RecordKeys | None:
        """Record keys once ClientKeyExchange has been processed."""
        session = lib.SSL_get_session(self._ssl)
        if session == ffi.NULL:
            return None
        # A buffer of its own, because its content is secret: freed with it.
        # 48 bytes of master secret, two Randoms of 32 (RFC 5246 sections 8.1 and 7.4.1.2).
        parts = ffi.new("unsigned char[112]")
        if lib.SSL_SESSION_get_master_key(session, parts, 48) != 48:
            return None  # there is a session, but no secret in it yet
        lib.SSL_get_client_random(self._ssl, parts + 48, 32)
        lib.SSL_get_server_random(self._ssl, parts + 80, 32)
        secrets = ffi.buffer(parts)[:]
        # OpenSSL names the suite only at the end; a server has written it into its ServerHello.
        cipher = lib.SSL_get_current_cipher(self._ssl)
        if cipher != ffi.NULL:
            self._suite = ffi.string(lib.SSL_CIPHER_get_name(cipher)).decode()
        if self._suite is None:
            return None
        return derive_keys(self._suite, secrets[:48], secrets[48:80], secrets[80:])


class _Role:
    """What the engines of one context share: the context and the name found by its callback.

    The callback runs inside ``feed`` of one engine, so one slot is enough; as is one ``room`` for
    flights on their way out.
    """

    server: bool

    def __init__(self, suites: Iterable[str]) -> None:
        method = SSL.DTLS_SERVER_METHOD if self.server else SSL.DTLS_CLIENT_METHOD
        self.context = _context(method, suites)
        self.device: str | None = None
        self.room = ffi.new("char[]", _ROOM)
        self.peer = ffi.gc(lib.BIO_ADDR_new(), lib.BIO_ADDR_free)
        """Where DTLSv1_listen writes whose hello it was; a memory BIO does not know."""

    def engine(self, mtu: int) -> OpensslEngine:
        """A new handshake. mtu: largest UDP payload to send."""
        return OpensslEngine(self, mtu)

    def _certify(
        self,
        identity: Identity,
        judge: Callable[[x509.Certificate], Refusal | None],
    ) -> None:
        """Show ``identity``, and accept who is of its authority and passes ``judge``.

        Everything is decoded here, once, and shared by all handshakes.
        """

        def verify(ok: int, chain: ffi.CData) -> int:
            if not ok or lib.X509_STORE_CTX_get_error_depth(chain) > 0:
                return ok
            # The last call: OpenSSL is content with the whole chain.
            current = lib.X509_STORE_CTX_get_current_cert(chain)
            lib.X509_up_ref(current)
            refusal = judge(crypto.X509._from_raw_x509_ptr(current).to_cryptography())
            if refusal is not None:
                lib.X509_STORE_CTX_set_error(chain, _ERRORS[refusal])
                return 0
            return 1

        self.context.use_certificate(identity.certificate)
        self.context.use_privatekey(identity.key)
        store = self.context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(identity.authority))
        self._verify_callback = ffi.callback(_VERIFY, verify, error=0)
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        lib.SSL_CTX_set_verify(self.context._context, mode, self._verify_callback)


class OpensslServer(_Role):
    """Makes engines that accept handshakes with the given credentials.

    secret: random bytes; unknown identities get a key made from it, so that an unknown name and a
    wrong key look alike from outside (RFC 4279 section 2 allows it). identity: needed by the
    suites with certificates.
    """

    server = True

    def __init__(
        self,
        credentials: Credentials,
        secret: bytes,
        suites: Iterable[str],
        identity: Identity | None = None,
    ) -> None:
        super().__init__(suites)
        self._credentials = credentials
        self._secret = secret
        context = self.context._context
        # Our own cookie was checked before OpenSSL saw the hello (cookie.py). OpenSSL is told no
        # way to make one: a hello without ends the handshake.
        self._cookie_callback = ffi.callback(_COOKIE, lambda ssl, cookie, length: 1, error=0)
        lib.SSL_CTX_set_cookie_verify_cb(context, self._cookie_callback)
        self._callback = ffi.callback(_PSK_SERVER, self._psk, error=0)
        lib.SSL_CTX_set_psk_server_callback(context, self._callback)
        if identity is not None:
            self._certify(identity, self._judge)

    def _judge(self, certificate: x509.Certificate) -> Refusal | None:
        found = self._credentials.bearer(certificate)
        if isinstance(found, Refusal):
            return found
        self.device = found
        return None

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


class _Client(_Role):
    """Makes engines that open handshakes: the node's side."""

    server = False


class OpensslClient(_Client):
    """A device with a pre-shared key."""

    def __init__(self, identity: bytes, key: bytes, suites: Iterable[str]) -> None:
        super().__init__(suites)
        self._identity, self._key = identity, key
        self._callback = ffi.callback(_PSK_CLIENT, self._psk, error=0)
        lib.SSL_CTX_set_psk_client_callback(self.context._context, self._callback)

    def _psk(
        self, ssl: object, hint: object, name: ffi.CData, name_room: int, out: ffi.CData, room: int
    ) -> int:
        if len(self._identity) >= name_room or len(self._key) > room:
            return 0
        ffi.memmove(name, self._identity + b"\0", len(self._identity) + 1)
        ffi.memmove(out, self._key, len(self._key))
        return len(self._key)


class OpensslCertifiedClient(_Client):
    """A device with a certificate.

    It knows the gateway by the role in its certificate and not by an address: there is one
    authority, it gives that role to gateways only, and a bracelet is told an address, not a name.
    """

    def __init__(self, identity: Identity, suites: Iterable[str]) -> None:
        super().__init__(suites)
        self._certify(identity, _judge_gateway)


def _judge_gateway(certificate: x509.Certificate) -> Refusal | None:
    try:
        role = role_of(certificate)
    except ForbiddenError:
        return Refusal.WRONG_ROLE
    return None if role == GATEWAY.role else Refusal.WRONG_ROLE


def psk_suites() -> list[str]:
    """The suites that authenticate by pre-shared key, best first."""
    return [name for name in SUITES if "PSK" in name]


def certificate_suites() -> list[str]:
    """The suites that authenticate by certificate, best first."""
    return [name for name in SUITES if "PSK" not in name]


def _words() -> str:
    """What OpenSSL's queue of errors says, which is empty then."""
    reasons = []
    while code := lib.ERR_get_error():
        if (reason := lib.ERR_reason_error_string(code)) != ffi.NULL:
            reasons.append(ffi.string(reason).decode())
    return "; ".join(reasons) or "OpenSSL does not say why"
