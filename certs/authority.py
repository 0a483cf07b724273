"""The ward's certificate authority: two files, ``ca.key`` and ``ca.pem``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from certs.profiles import Profile


class Authority:
    """Issues certificates. Made by :meth:`create` once, by :meth:`load` afterwards."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, directory: Path, ward: str, *, wall: float) -> Authority:
        """A new authority in an existing folder. Raises ConfigError, also if there is one."""
        raise NotImplementedError

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Raises ConfigError: missing, unreadable, or key and certificate do not match."""
        raise NotImplementedError

    def issue(
        self,
        profile: Profile,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        *,
        wall: float,
        hosts: Sequence[str] = (),
        kid_uri: str | None = None,
        days: int | None = None,
    ) -> x509.Certificate:
        """A certificate for ``name`` (CN) in the profile's role (OU).

        ``hosts``: DNS names and IP addresses of a server; ``kid_uri``: the thumbprint URI of the
        bearer's sealing key (RFC 9679). Raises UsageError: a name, host or key that cannot be.
        """
        raise NotImplementedError

    def sign_request(
        self,
        profile: Profile,
        name: str,
        request: bytes,
        *,
        wall: float,
        hosts: Sequence[str] = (),
        kid_uri: str | None = None,
        days: int | None = None,
    ) -> x509.Certificate:
        """As :meth:`issue`, for the key of a PEM certificate request (RFC 2986).

        Only its key is taken, after proof that the sender holds it: name and role are the
        operator's to say. Raises BadRequestError for the request, UsageError for the rest.
        """
        raise NotImplementedError
