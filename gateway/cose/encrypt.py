"""COSE_Encrypt (RFC 9052 section 5.1): AES-256-GCM content for recipients by ECDH-ES + A256KW."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.cose.keys import PrivateKey, PublicKey

MAX_RECIPIENTS = 128
"""A patient, a ward's staff and its desks; each costs about 160 bytes and an ECDH to make."""


def encrypt(
    plaintext: bytes,
    recipients: Sequence[PublicKey],
    *,
    external_aad: bytes,
    random: Callable[[int], bytes],
    protected: Mapping[int | str, object] | None = None,
) -> bytes:
    """A tagged COSE_Encrypt message; each recipient's ``kid`` is the thumbprint of their key.

    ``protected`` adds header parameters to the algorithm in the content's protected header.
    Raises SealError: no recipient, or more than :data:`MAX_RECIPIENTS`.
    """
    raise NotImplementedError


def decrypt_untrusted(
    message: bytes, private_key: PrivateKey, *, external_aad: bytes, kid: bytes | None = None
) -> bytes:
    """The plaintext, for the recipient called ``kid`` (default: the thumbprint of the key).

    Raises BadRequestError (shape) or IntegrityError (not for this key, or does not open).
    """
    raise NotImplementedError
