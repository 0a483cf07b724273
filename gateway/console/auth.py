"""Who may ask: the bearer of the gateway's token, or of a certificate with a role for it.

The token is a file in the state folder that only the gateway's user reads: whoever can read it
could read everything else there. Over TLS a certificate of the ward's authority does as well.
"""

from __future__ import annotations

import hmac
import os
import secrets
import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509

from certs.files import flush_folder
from certs.profiles import ADMIN, AUDITOR
from certs.verify import role_of
from gateway.errors import ConfigError, ForbiddenError

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

NAME: Final = "console.token"
"""Of the file in the state folder."""

_ROLES: Final = (ADMIN.role, AUDITOR.role)
_SCHEME: Final = "Bearer "
_TOKEN_BYTES: Final = 32


def token(state: Path) -> str:
    """The token of this gateway; made, 0600, where there is none. Raises ConfigError."""
    path = state / NAME
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            found = path.read_text().strip()
        else:
            found = secrets.token_urlsafe(_TOKEN_BYTES)
            with open(descriptor, "w") as file:
                file.write(f"{found}\n")
                file.flush()
                os.fsync(descriptor)  # a power cut would leave an empty one
            flush_folder(state)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read or made: {error}"]) from None
    if len(found) < _TOKEN_BYTES:
        raise ConfigError([f"{path}: too short for a secret; remove it, a new one is made"])
    return found


def server_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with the gateway's certificate; a client may show one of the ward's.

    Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"{ca}: cannot be used for TLS: {error}"]) from None
    show(context, certificate, key)
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """This certificate from the next connection on. Raises ConfigError."""
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"{certificate}, {key}: cannot be used for TLS: {error}"]) from None


def welcome(request: web.Request, expected: str, wall: float) -> bool:
    """Whether the sender has shown the token, or a certificate that is valid at ``wall``."""
    shown = request.headers.get("Authorization", "")
    if shown.startswith(_SCHEME):
        given = shown.removeprefix(_SCHEME).strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, expected.encode())
    session = request.get_extra_info("ssl_object")
    der = None if session is None else session.getpeercert(binary_form=True)
    return der is not None and _may(der, wall)


def _may(der: bytes, wall: float) -> bool:
    """TLS has proved the key and the authority. A connection may outlive the dates."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        valid = (
            certificate.not_valid_before_utc.timestamp()
            <= wall
            <= certificate.not_valid_after_utc.timestamp()
        )
        return valid and role_of(certificate) in _ROLES
    except (ValueError, ForbiddenError):
        return False
