"""Header parameters (RFC 9052 section 3): which are read, and where each may stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.cose import cbor
from gateway.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALG: Final = 1
CRIT: Final = 2
KID: Final = 4
IV: Final = 5
TYP: Final = 16
"""Type of the whole message (RFC 9596): a batch is never taken for an envelope."""
X5CHAIN: Final = 33
"""The signer's certificate (RFC 9360)."""
EPHEMERAL_KEY: Final = -1
"""Of a recipient (RFC 9053 section 6.3.1)."""

A256GCM: Final = 3
A256KW: Final = -5
ES256: Final = -7
ECDH_ES_A256KW: Final = -31


class Headers(NamedTuple):
    """The two buckets of one layer."""

    encoded: bytes
    """The protected bucket as received: what was authenticated."""

    protected: Mapping[int | str, object]
    unprotected: Mapping[int | str, object]

    def require(self, algorithm: int) -> None:
        """The algorithm must be this one, and protected. Raises BadRequestError.

        An algorithm outside the protected bucket could be exchanged on the way.
        """
        found = self.protected.get(ALG)
        if type(found) is not int or found != algorithm:
            raise BadRequestError(f"COSE: the protected algorithm must be {algorithm}")

    def byte_string(self, label: int | str) -> bytes:
        """A byte string from either bucket. Raises BadRequestError."""
        value = self.protected.get(label, self.unprotected.get(label))
        if type(value) is not bytes:
            raise BadRequestError(f"COSE: header {label} must be a byte string")
        return value


def read_untrusted(reader: cbor.Reader) -> Headers:
    """Both buckets of the layer that begins here. Raises BadRequestError.

    Refused: a label in both buckets (RFC 9052 section 3), and ``crit``, as no extension is known.
    """
    encoded = reader.byte_string(cbor.MAX_ITEM_BYTES)
    protected = cbor.mapping_untrusted(cbor.decode_untrusted(encoded) if encoded else {})
    unprotected = cbor.mapping_untrusted(reader.item())
    if CRIT in protected:
        raise BadRequestError("COSE: critical headers are not supported")
    if not protected.keys().isdisjoint(unprotected):
        raise BadRequestError("COSE: a header is both protected and unprotected")
    return Headers(encoded, protected, unprotected)
