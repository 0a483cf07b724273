"""Examples of the COSE working group: those with our algorithms open, the others are refused.

See tests/data/cose/README.md for their origin.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.cose import encrypt, encrypt0, sign1
from gateway.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "data" / "cose"
OURS = (
    "aes-gcm-examples/aes-gcm-enc-03.json",
    "ecdh-wrap-examples/p256-wrap-256-02.json",
    "ecdsa-examples/ecdsa-sig-01.json",
    "sign1-tests/sign-pass-02.json",
    "RFC8152/Appendix_C_2_1.json",
)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / name).read_text())
    return found


def names() -> list[str]:
    """Those that :func:`opener` can do something with."""
    files = (str(file.relative_to(EXAMPLES)) for file in sorted(EXAMPLES.glob("*/*.json")))
    return [name for name in files if opener(load(name)) is not None]


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def private_key(key: dict[str, Any]) -> ec.EllipticCurvePrivateKey | None:
    if key.get("kty") != "EC" or key.get("crv") != "P-256" or "d" not in key:
        return None
    return ec.derive_private_key(number(key["d"]), ec.SECP256R1())


def opener(example: dict[str, Any]) -> Callable[[bytes], bytes] | None:
    """How to open this kind of message, or None for kinds and keys that we do not have."""
    given = example["input"]
    layer = given.get("encrypted") or given.get("enveloped") or given.get("sign0")
    if layer is None:
        return None
    aad = bytes.fromhex(layer.get("external", ""))
    if "encrypted" in given:
        key = bytes.fromhex(example["intermediates"]["CEK_hex"])
        return lambda message: encrypt0.open_untrusted(message, key, aad)
    if "enveloped" in given:
        recipient = layer["recipients"][0].get("key", {})
        private, kid = private_key(recipient), recipient.get("kid", "").encode()
        if private is None:
            return None
        return lambda message: encrypt.decrypt_untrusted(
            message, private, external_aad=aad, kid=kid
        )
    private = private_key(layer.get("key", {}))
    if private is None:
        return None
    public = private.public_key()
    return lambda message: sign1.verify_untrusted(message, public, external_aad=aad).payload


@pytest.mark.parametrize("name", OURS)
def test_our_algorithms_open(name: str) -> None:
    example = load(name)
    open_ = opener(example)
    assert open_ is not None
    found = open_(bytes.fromhex(example["output"]["cbor"]))
    assert found == example["input"]["plaintext"].encode()


@pytest.mark.parametrize("name", sorted(set(names()) - set(OURS)))
def test_everything_else_is_refused(name: str) -> None:
    """Other algorithms and broken messages; on purpose, an algorithm that is not protected
    (sign-pass-01) and a message without its tag (sign-pass-03)."""
    example = load(name)
    open_ = opener(example)
    assert open_ is not None
    with pytest.raises(PeerError):
        open_(bytes.fromhex(example["output"]["cbor"]))
