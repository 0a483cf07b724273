"""Our COSE against an independent one: cwt, in an environment of its own.

cwt needs an older cbor2 than the product does, so it runs as a process under its own Python. The
environment is made once, in ``.venv-cwt`` beside this repository's other folders. cwt knows no
key wrap over X25519, so that is left to the unit tests.
"""

from __future__ import annotations

import datetime
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.cose import encrypt, encrypt0, envelope, keys, sign1
from gateway.errors import IntegrityError
from gateway.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIREMENTS = ("cwt==3.3.0", "cbor2>=5.9,<6")
ENVIRONMENT = Path(__file__).parents[2] / ".venv-cwt"
PYTHON = ENVIRONMENT / "bin" / "python"
INSTALL_TIMEOUT_S = 180

P256 = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
OTHER_P256 = ec.derive_private_key(0xBEEF, ec.SECP256R1())
CONTENT_KEY = bytes(range(32))
EPOCH = b"epoch-0123456789"
PAYLOADS = pytest.mark.parametrize("payload", [b"v", b"This is the content.", bytes(100_000)])
RANDOM = random.Random(3).randbytes


def install() -> None:
    """Make the environment, whole or not at all; skip by name if that cannot be done here."""
    done = ENVIRONMENT / "complete"
    if done.exists() and done.read_text() == " ".join(REQUIREMENTS):
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    try:
        for command in ((sys.executable, "-m", "venv", ENVIRONMENT), (*pip, *REQUIREMENTS)):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as exc:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        pytest.skip(f"cwt: pip could not install {' '.join(REQUIREMENTS)} ({exc})")
    done.write_text(" ".join(REQUIREMENTS))


class Cwt:
    """Asks the process. Every value but ``do`` is bytes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, do: str, **values: bytes) -> bytes:
        request = {"do": do} | {name: value.hex() for name, value in values.items()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return bytes.fromhex(answer["result"])


@pytest.fixture(scope="session")
def cwt() -> Iterator[Cwt]:
    install()
    peer = Path(__file__).with_name("cwt_peer.py")
    process = subprocess.Popen(
        (PYTHON, peer), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield Cwt(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def numbers(key: ec.EllipticCurvePrivateKey, *, private: bool) -> dict[str, bytes]:
    """The key as cwt takes it: x and y, and d if it is to open or sign."""
    public = key.public_key().public_numbers()
    found = {"x": public.x.to_bytes(32, "big"), "y": public.y.to_bytes(32, "big")}
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    return found | ({"d": secret} if private else {})


@PAYLOADS
def test_cwt_opens_our_records(cwt: Cwt, payload: bytes) -> None:
    message = encrypt0.Sealer(EPOCH, CONTENT_KEY).seal(payload, b"bound")
    opened = cwt("open", message=message, key=CONTENT_KEY, kid=EPOCH, aad=b"bound")
    assert opened == payload
    with pytest.raises(ValueError, match="Failed to decrypt"):
        cwt("open", message=message, key=CONTENT_KEY, kid=EPOCH, aad=b"other")


@PAYLOADS
def test_we_open_records_of_cwt(cwt: Cwt, payload: bytes) -> None:
    message = cwt("seal", payload=payload, key=CONTENT_KEY, kid=EPOCH, iv=bytes(12), aad=b"bound")
    assert encrypt0.epoch_of_untrusted(message) == EPOCH
    assert encrypt0.open_untrusted(message, CONTENT_KEY, b"bound") == payload
    with pytest.raises(IntegrityError):
        encrypt0.open_untrusted(message, CONTENT_KEY, b"other")


@PAYLOADS
@pytest.mark.parametrize("others", [0, 1, 30])
def test_cwt_opens_what_we_encrypt(cwt: Cwt, others: int, payload: bytes) -> None:
    """Also when the message is for several."""
    people = [OTHER_P256.public_key()] * others + [P256.public_key()]
    message = encrypt.encrypt(payload, people, external_aad=b"bound", random=RANDOM)
    mine = {"kid": keys.thumbprint(P256.public_key()), **numbers(P256, private=True)}
    assert cwt("decrypt", message=message, aad=b"bound", **mine) == payload
    with pytest.raises(ValueError, match="Failed to decrypt"):
        cwt("decrypt", message=message, aad=b"other", **mine)


@PAYLOADS
def test_we_open_what_cwt_encrypts(cwt: Cwt, payload: bytes) -> None:
    public = {"kid": keys.thumbprint(P256.public_key()), **numbers(P256, private=False)}
    message = cwt("encrypt", payload=payload, aad=b"bound", **public)
    assert encrypt.decrypt_untrusted(message, P256, external_aad=b"bound") == payload
    with pytest.raises(IntegrityError):
        encrypt.decrypt_untrusted(message, P256, external_aad=b"other")


def test_cwt_opens_an_envelope(cwt: Cwt) -> None:
    """The whole way of a reader: signature, recipient, content key, record."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway-1")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, P256.public_key(), 1, begin, begin.replace(year=2027))
    ).sign(P256, hashes.SHA256())
    sealed = envelope.seal_envelope(
        CONTENT_KEY,
        epoch=EPOCH,
        gateway="gateway-1",
        patient=bytes(16),
        lane=Lane.EMERGENCY,
        created_ms=1_790_000_000_000,
        recipients=[P256.public_key(), OTHER_P256.public_key()],
        signing_key=P256,
        certificate=certificate,
        random=RANDOM,
    )
    facts = ["gateway-1", EPOCH, bytes(16), "emergency", sealed.created_ms, list(sealed.readers)]
    payload = cwt("verify", message=sealed.message, aad=b"", **numbers(P256, private=False))
    mine = {"kid": sealed.readers[1], **numbers(OTHER_P256, private=True)}
    key = cbor2.loads(cwt("decrypt", message=payload, aad=cbor2.dumps(facts), **mine))
    assert key == {1: 4, 2: EPOCH, 3: 3, -1: CONTENT_KEY}
    record = encrypt0.Sealer(EPOCH, CONTENT_KEY).seal(b"vitals", b"bound")
    assert cwt("open", message=record, key=key[-1], kid=key[2], aad=b"bound") == b"vitals"


@PAYLOADS
def test_cwt_verifies_our_signatures(cwt: Cwt, payload: bytes) -> None:
    message = sign1.sign(P256, payload, external_aad=b"bound", unprotected={4: b"gateway-1"})
    public = numbers(P256, private=False)
    assert cwt("verify", message=message, aad=b"bound", **public) == payload
    with pytest.raises(ValueError, match="Failed to verify"):
        cwt("verify", message=message, aad=b"bound", **numbers(OTHER_P256, private=False))


@PAYLOADS
def test_we_verify_signatures_of_cwt(cwt: Cwt, payload: bytes) -> None:
    message = cwt("sign", payload=payload, aad=b"bound", **numbers(P256, private=True))
    found = sign1.verify_untrusted(message, P256.public_key(), external_aad=b"bound")
    assert found.payload == payload
    with pytest.raises(IntegrityError):
        sign1.verify_untrusted(message, OTHER_P256.public_key(), external_aad=b"bound")
