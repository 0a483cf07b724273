"""What is sealed stays sealed: forged COSE opens nowhere, replays are known, canaries are unseen.

Forgeries are tried on the readers' own code in this process. Replays and canaries go through a
running gateway to a running cloud store. A canary is looked for on every disk, in every log and,
if its node has sealed it, in the gateway's memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
from typing import TYPE_CHECKING
from unittest.mock import patch

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certs import files
from gateway.coap.numbers import dotted
from gateway.cose import cbor, encrypt, encrypt0, headers, record, sign1
from gateway.errors import PeerError
from gateway.lane import Lane
from gateway.reader import profile
from gateway.reader.fetch import CloudClient
from gateway.sinks.transport import Transport
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.reader.pages import Item
    from tests.acceptance.ward import Ward
    from tests.experiments.rigs.hostile import Faults, Target

_COSE_ENCRYPT0 = 16
_ELECTIVE = ((65_000, b"x"),)
"""Sends a message to the other lane."""


class _Ours:
    """Keys of the right people and of others, and messages that open."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.key, self.other_key = chance.randbytes(32), chance.randbytes(32)
        self.epoch = chance.randbytes(16)
        self.signer = ec.derive_private_key(chance.getrandbits(200) + 1, ec.SECP256R1())
        self.stranger = ec.derive_private_key(chance.getrandbits(200) + 1, ec.SECP256R1())
        self.header = record.Header(
            chance.randbytes(16), chance.randbytes(16), Lane.ROUTINE, 1_790_000_000_000, self.epoch
        )
        self.aad = record.external_aad("gateway-1", *self.header[:4])
        self.sealed = encrypt0.Sealer(self.epoch, self.key).seal(b"vital signs", self.aad)
        self.wrapped = encrypt.encrypt(
            b"content key",
            [self.signer.public_key(), self.stranger.public_key()],
            external_aad=b"facts",
            random=chance.randbytes,
        )
        self.alone = encrypt.encrypt(
            b"content key",
            [self.signer.public_key()],
            external_aad=b"facts",
            random=chance.randbytes,
        )
        self.batch = record.encode_batch(self.signer, "gateway-1", [(self.header, self.sealed)])

    def open(self, message: bytes, key: bytes | None = None, aad: bytes | None = None) -> object:
        return encrypt0.open_untrusted(message, key or self.key, self.aad if aad is None else aad)

    def unwrap(self, message: bytes, **other: object) -> object:
        how: dict[str, object] = {"external_aad": b"facts", **other}
        return encrypt.decrypt_untrusted(message, self.signer, **how)  # type: ignore[arg-type]

    def read(self, message: bytes) -> object:
        return record.decode_batch_untrusted(message, self.signer.public_key(), gateway="gateway-1")


def _items(message: bytes) -> list[object]:
    """The parts of a tagged message."""
    found: list[object] = cbor2.loads(message).value
    return found


def _made(tag: int, *parts: object) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, list(parts)))


def _forgeries(ours: _Ours) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each must be refused."""
    protected, unprotected, ciphertext = _items(ours.sealed)
    assert isinstance(protected, bytes)
    assert isinstance(ciphertext, bytes)
    yield "another key", lambda: ours.open(ours.sealed, key=ours.other_key)
    facts = {"gateway": "gateway-2", "id": bytes(16), "patient": bytes(16)}
    facts |= {"lane": Lane.EMERGENCY, "time": 1_790_000_000_001}
    names = list(facts)
    for name, value in facts.items():
        said: list[object] = ["gateway-1", *ours.header[:4]]
        said[names.index(name)] = value
        aad = record.external_aad(*said)  # type: ignore[arg-type]
        yield f"bound to another {name}", lambda aad=aad: ours.open(ours.sealed, aad=aad)
    yield "bound to nothing", lambda: ours.open(ours.sealed, aad=b"")
    for algorithm in (None, 1, 2, 10, 24, -7, "A256GCM", 3.0):
        header = cbor.encode(
            {headers.KID: ours.epoch} | ({} if algorithm is None else {headers.ALG: algorithm})
        )
        iv = ours.chance.randbytes(encrypt0.IV_BYTES)
        structure = cbor2.dumps(["Encrypt0", header, ours.aad])
        content = AESGCM(ours.key).encrypt(iv, b"vital signs", structure)
        for place in ({}, {headers.ALG: headers.A256GCM}):
            message = _made(16, header, {headers.IV: iv} | place, content)
            yield f"algorithm {algorithm}", lambda message=message: ours.open(message)
    other = _items(encrypt0.Sealer(bytes(16), ours.key).seal(b"vital signs", ours.aad))
    for name, parts in {
        "another's protected header": (other[0], unprotected, ciphertext),
        "another's IV": (protected, {headers.IV: bytes(12)}, ciphertext),
        "another's ciphertext": (protected, unprotected, b"x" + ciphertext[1:]),
        "kid in both": (protected, {**unprotected, headers.KID: bytes(16)}, ciphertext),  # type: ignore[dict-item]
        "an empty protected header": (b"", {**cbor2.loads(protected), **unprotected}, ciphertext),  # type: ignore[dict-item]
    }.items():
        yield name, lambda parts=parts: ours.open(_made(16, *parts))
    for size in range(len(ciphertext)):
        cut = _made(16, protected, unprotected, ciphertext[:size])
        yield f"{len(ciphertext) - size} bytes of the tag cut off", lambda cut=cut: ours.open(cut)

    outer_protected, outer, content, recipients = _items(ours.wrapped)
    mine, theirs = recipients  # type: ignore[misc]
    yield "facts changed", lambda: ours.unwrap(ours.wrapped, external_aad=b"fact")
    yield "a kid of nobody", lambda: ours.unwrap(ours.wrapped, kid=bytes(32))
    for name, people in {
        "wrapped for another": [[mine[0], mine[1], theirs[2]], theirs],
        "another's recipient under my kid": [[theirs[0], {**theirs[1], 4: mine[1][4]}, theirs[2]]],
        "twice for me": [mine, mine],
        "key wrap without agreement": [[cbor.encode({1: -5}), mine[1], mine[2]]],
        "algorithm of the recipient unprotected": [[b"", {**mine[1], 1: -31}, mine[2]]],
        "nobody": [],
    }.items():
        message = _made(96, outer_protected, outer, content, people)
        yield name, lambda message=message: ours.unwrap(message)

    signed, loose, payload, signature = _items(ours.batch)
    assert isinstance(signed, bytes)
    assert isinstance(signature, bytes)
    for name, parts in {
        "signed by a stranger": _items(
            record.encode_batch(ours.stranger, "gateway-1", [(ours.header, ours.sealed)])
        ),
        "signed in another's name": _items(
            record.encode_batch(ours.signer, "gateway-2", [(ours.header, ours.sealed)])
        ),
        "a signature of another type": _items(sign1.sign(ours.signer, payload)),  # type: ignore[arg-type]
        "a signature cut short": [signed, loose, payload, signature[:-1]],
        "a signature of zeros": [signed, loose, payload, bytes(64)],
        "a signature without algorithm": [b"\xa0", loose, payload, signature],
        "an algorithm outside the signature": [b"", {1: -7}, payload, signature],
    }.items():
        yield name, lambda parts=parts: ours.read(_made(18, *parts))


def _flipped(ours: _Ours) -> tuple[str, Callable[[], object]]:
    """One bit of one of the three messages."""
    read, message = ours.chance.choice(
        ((ours.open, ours.sealed), (ours.unwrap, ours.alone), (ours.read, ours.batch))
    )
    place = ours.chance.randrange(len(message) * 8)
    changed = bytearray(message)
    changed[place // 8] ^= 1 << place % 8
    return f"bit {place} of {len(message)} bytes", lambda: read(bytes(changed))


def _forge(run: Run) -> list[str]:
    ours = _Ours(random.Random(run.seed))
    for opens in (ours.open(ours.sealed), ours.unwrap(ours.wrapped), ours.read(ours.batch)):
        assert opens
    failures = []
    tried = list(_forgeries(ours))
    for done in range(max(run.runs, len(tried))):
        name, read = tried[done] if done < len(tried) else _flipped(ours)
        try:
            read()
            failures.append(f"{name}: it opens")
        except PeerError:
            pass
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}")
        run.progress(done + 1)
    return failures


# -- through the gateway


class _Canaries:
    """Words that occur nowhere else, and how nodes send them."""

    def __init__(self) -> None:
        self.spoken = f"canary-{os.urandom(8).hex()}"
        self.hidden = f"canary-{os.urandom(8).hex()}"
        self.key, self.epoch = os.urandom(32), os.urandom(16)
        self.sealer = encrypt0.Sealer(self.epoch, self.key)
        self.messages = [self.sealer.seal(self.hidden.encode(), b"") for _ in range(4)]
        self.pack = cbor2.dumps([{0: "note", 3: self.spoken}])

    def sing(self, target: Target) -> Iterator[str]:
        """To each resource, over both lanes. What went wrong."""
        peer = target.peer()
        messages = iter(self.messages)
        for path in ("v", "a", "s", "s/a"):
            for more in ((), _ELECTIVE):
                sealed = path.startswith("s")
                payload = next(messages) if sealed else self.pack
                answer = peer.request(path, payload, _COSE_ENCRYPT0 if sealed else 112, more=more)
                if dotted(answer.code) != "2.04":
                    yield f"/{path}: {dotted(answer.code)}"

    def seen_in(self, folder: Path) -> Iterator[str]:
        """Files with a canary in them."""
        needles = (self.spoken.encode(), self.hidden.encode())
        for path in sorted(folder.rglob("*")):
            if path.is_file() and any(needle in path.read_bytes() for needle in needles):
                yield f"a canary in {path.name}"

    def seen_in_memory(self, pid: int, known: bytes) -> Iterator[str]:
        """A node's sealed canary in the clear; or that ``known``, which is there, is not found."""
        found = set()
        needles = (self.hidden.encode(), known)
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                first, last = (int(one, 16) for one in span.split("-"))
                if rights.startswith("rw"):
                    try:
                        memory.seek(first)
                        content = memory.read(last - first)
                    except (OSError, OverflowError):
                        continue  # of the kernel's, not to be read
                    found |= {needle for needle in needles if needle in content}
        if self.hidden.encode() in found:
            yield "a node's sealed canary in the gateway's memory"
        if known not in found:
            yield "the gateway's memory cannot be searched"

    def heard_by_reader(self, ward: Ward) -> list[str]:
        """What the entitled make of it."""
        ward.delivered()
        opened = [*ward.opened("doctor"), *ward.opened("alarm-centre")]
        spoken = sum(
            any(one.text == self.spoken for one in found.records or ()) for found in opened
        )
        hidden = 0
        for found in opened:
            if found.sealed is not None and found.sealed[1] in self.messages:
                plain = encrypt0.open_untrusted(found.sealed[1], self.key, b"")
                hidden += plain == self.hidden.encode()
        if (spoken, hidden) != (4, 4):
            return [f"readers find {spoken} and {hidden} canaries, not 4 and 4"]
        return []


def _transport(ward: Ward, certificate: Path, key: Path) -> Transport:
    context = ssl.create_default_context(cafile=ward.folder / "ca" / "ca.pem")
    context.load_cert_chain(certificate, key)
    return Transport(f"https://127.0.0.1:{ward.port_base + 3}", Lane.ROUTINE, context)


async def _fetched(ward: Ward) -> list[Item]:
    """What the store has, up to a page."""
    async with CloudClient(profile.load(ward.folder / "recipients" / "doctor")) as client:
        return list((await client.page(after=0, lane=None)).items)


async def _replay(ward: Ward) -> list[str]:
    """Records that were delivered, again and by others."""
    failures = []
    before = await _fetched(ward)
    nonces = [tuple(_items(item.record)[1].values()) for item in before]  # type: ignore[attr-defined]
    named = [(item.header.epoch, nonce) for item, nonce in zip(before, nonces, strict=True)]
    if len(set(named)) != len(named):
        failures.append("an epoch has used a nonce twice")
    again = [(item.header, item.record) for item in before[:100]]
    keys, reader = ward.folder / "keys", ward.folder / "recipients" / "doctor"
    key = files.load_private(keys / "gateway.key")
    gateway = before[0].gateway
    batch = record.encode_batch(key, gateway, again)
    stranger = ec.generate_private_key(ec.SECP256R1())
    tries = {
        "a replay": (batch, True),
        "signed by a stranger": (record.encode_batch(stranger, gateway, again), False),
        "in another's name": (record.encode_batch(key, "gateway-2", again), False),
        "cut short": (batch[:-1], False),
        "with a bit changed": (batch[:200] + bytes((batch[200] ^ 1,)) + batch[201:], False),
    }
    ours = _transport(ward, keys / "gateway.pem", keys / "gateway.key")
    theirs = _transport(ward, reader / "tls.pem", reader / "tls.key")
    for transport in (ours, theirs):
        transport.open()
    for name, (body, known) in tries.items():
        answer = await ours.request("POST", "/v1/records", body, "application/cose")
        if known and (answer.status != 200 or json.loads(answer.body)["stored"]):
            failures.append(f"{name}: {answer.status} {answer.body[:100]!r}")
        if not known and not 400 <= answer.status < 500:
            failures.append(f"{name}: {answer.status}")
    answer = await theirs.request("POST", "/v1/records", batch, "application/cose")
    if answer.status != 403:
        failures.append(f"by a reader: {answer.status}")
    for transport in (ours, theirs):
        await transport.close()
    if [item.header for item in await _fetched(ward)] != [item.header for item in before]:
        failures.append("the store has something else after the replays")
    return failures


def _through_gateway(run: Run, figures: dict[str, object]) -> list[str]:
    canaries = _Canaries()
    with attacked(run, _FAULTS) as target:
        failures = list(canaries.sing(target))
        ward = target.ward
        if ward is None:
            return [*failures, *canaries.seen_in(run.folder)]
        assert ward.gateway is not None
        try:
            known = str(ward.config).encode()
            failures += canaries.seen_in_memory(ward.gateway.pid, known)
            figures["memory"] = "searched"
        except PermissionError:
            figures["memory"] = "may not be looked at here"
        for folder in (ward.folder, ward.logs):
            failures += canaries.seen_in(folder)
        failures += canaries.heard_by_reader(ward)
        failures += asyncio.run(_replay(ward))
        failures += canaries.seen_in(ward.folder)
    return failures


def _run(run: Run) -> Found:
    figures: dict[str, object] = {}
    if run.fault == "unsealed":
        return Found(_through_gateway(run, figures), figures)
    if run.fault is not None:
        with _FAULTS[run.fault][1]():
            return Found(_forge(run), figures)
    return Found([*_forge(run), *_through_gateway(run, figures)], figures)


# -- faults


_FAULTS: Faults = {
    "unbound": (
        "a record is not bound to the facts around it",
        lambda: patch.object(record, "external_aad", lambda *_: b""),
    ),
    "any-algorithm": (
        "nobody asks for the algorithm",
        lambda: patch.object(headers.Headers, "require", lambda self, algorithm: None),
    ),
    "unsealed": (
        "records are stored as they are",
        lambda: patch.object(encrypt0.Sealer, "seal", lambda self, plaintext, aad: plaintext),
    ),
}

register(
    Experiment(
        id="S-16",
        name="sealed",
        target=(
            "no forged message opens; a replay to the cloud store changes nothing, others' are "
            "refused; no canary in state, logs or cloud, none that a node sealed in the gateway's "
            "memory; no nonce twice under a key"
        ),
        unit="forgeries",
        short=300,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=1,
    )
)
