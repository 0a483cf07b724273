"""The other side of test_cwt.py: runs under its own Python, with cwt and the cbor2 it needs.

One JSON request a line on standard input, one answer a line on standard output. Bytes are hex.
"""

import json
import sys

from cwt import COSE, COSEKey, Recipient

WRAP = {"alg": "A256KW", "supp_pub": {"key_data_length": 256, "protected": {1: -31}}}


def content_key(request):
    parameters = {1: 4, 3: 3, -1: request["key"]}
    if "kid" in request:
        parameters[2] = request["kid"]
    return COSEKey.new(parameters)


def recipient_key(request):
    parameters = {1: 2, 2: request["kid"], 3: -31, -1: 1, -2: request["x"], -3: request["y"]}
    if "d" in request:
        parameters[-4] = request["d"]
    return COSEKey.new(parameters)


def signing_key(request):
    parameters = {1: 2, 2: b"gateway-1", 3: -7, -1: 1, -2: request["x"], -3: request["y"]}
    if "d" in request:
        parameters[-4] = request["d"]
    return COSEKey.new(parameters)


def seal(request):
    return COSE.new().encode(
        request["payload"],
        content_key(request),
        protected={1: 3},
        unprotected={4: request["kid"], 5: request["iv"]},
        external_aad=request["aad"],
    )


def open_(request):
    return COSE.new().decode(request["message"], content_key(request), external_aad=request["aad"])


def encrypt(request):
    recipient = Recipient.new(
        protected={1: -31},
        unprotected={4: request["kid"]},
        recipient_key=recipient_key(request),
        context=WRAP,
    )
    key = COSEKey.generate_symmetric_key(alg="A256GCM")
    return COSE.new().encode(
        request["payload"],
        key,
        protected={1: 3},
        unprotected={5: key.generate_nonce()},
        recipients=[recipient],
        external_aad=request["aad"],
    )


def decrypt(request):
    return COSE.new().decode(
        request["message"], recipient_key(request), context=WRAP, external_aad=request["aad"]
    )


def sign(request):
    return COSE.new().encode(
        request["payload"],
        signing_key(request),
        protected={1: -7},
        unprotected={4: b"gateway-1"},
        external_aad=request["aad"],
    )


def verify(request):
    return COSE.new().decode(request["message"], signing_key(request), external_aad=request["aad"])


ACTIONS = {
    "seal": seal,
    "open": open_,
    "encrypt": encrypt,
    "decrypt": decrypt,
    "sign": sign,
    "verify": verify,
}

for line in sys.stdin:
    request = json.loads(line)
    request = {k: v if k == "do" else bytes.fromhex(v) for k, v in request.items()}
    try:
        answer = {"result": ACTIONS[request["do"]](request).hex()}
    except Exception as exc:
        answer = {"error": f"{type(exc).__name__}: {exc}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
