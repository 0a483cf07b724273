"""COSE_Encrypt0 with AES-256-GCM (RFC 9052 section 5.2): one record under its epoch's key."""

from __future__ import annotations


class Sealer:
    """Seals under one content key. The only holder of that key's counter: one key, one Sealer."""

    def __init__(self, epoch: bytes, content_key: bytes) -> None:
        """``epoch``: 16 bytes, the ``kid``; ``content_key``: 32 random bytes, never written down.

        Raises SealError for other lengths.
        """
        self.epoch = epoch
        self.sealed_count = 0
        raise NotImplementedError

    def seal(self, plaintext: bytes, external_aad: bytes) -> bytes:
        """A tagged COSE_Encrypt0 message, ``kid`` = the epoch."""
        raise NotImplementedError


def open_untrusted(message: bytes, content_key: bytes, external_aad: bytes) -> bytes:
    """The plaintext. Raises BadRequestError (shape) or IntegrityError (does not open)."""
    raise NotImplementedError


def epoch_of_untrusted(message: bytes) -> bytes:
    """The ``kid``: which content key opens this message. Raises BadRequestError."""
    raise NotImplementedError
