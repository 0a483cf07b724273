"""What a certificate of this ward says, and whether to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509


def issued_by(certificate: x509.Certificate, ca: x509.Certificate, *, wall: float) -> None:
    """Accept a certificate that ``ca`` issued, valid at ``wall``, for one of the known roles.

    For something signed earlier, ``wall`` is the time of the signature. Raises ForbiddenError.
    """
    raise NotImplementedError


def role_of(certificate: x509.Certificate) -> str:
    """The subject's OU. Raises ForbiddenError unless there is exactly one."""
    raise NotImplementedError


def name_of(certificate: x509.Certificate) -> str:
    """The subject's CN. Raises ForbiddenError unless there is exactly one."""
    raise NotImplementedError


def kid_of(certificate: x509.Certificate) -> bytes | None:
    """The 32-byte thumbprint of the bearer's sealing key, if the certificate names one.

    Raises ForbiddenError: malformed, or several.
    """
    raise NotImplementedError
