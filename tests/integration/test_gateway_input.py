"""Bad input from the network against a whole gateway: the right answer, and then as before.

Every message is made by hand and goes over a real socket and a real association. What is checked
after each: a good request is answered 2.04 by the same gateway, over the same association where
there is one, and nothing was counted or logged as a bug.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import shutil
import struct
import time
from typing import TYPE_CHECKING

import cbor2
import pytest

from gateway import provision
from gateway.coap import message as wire
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Option, Type, dotted
from gateway.coap.options import Block, uint
from gateway.dtls.client import Client
from gateway.dtls.engines.openssl import OpensslClient, psk_suites
from gateway.errors import DtlsError
from gateway.roster.devices import Devices, new_device
from tests.integration.peer import CBOR, GOOD, JSON, KEY, WITHIN_S, Peer, Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = 400
"""Each test has a device of its own: the limits on one are not the subject of the others."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ward with devices d0, d1, ..., whose cloud store is nowhere."""
    made = tmp_path_factory.mktemp("input") / "ward"
    provision.make_ward(
        made, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
    )
    Devices(made / "state" / "devices.json").add(
        *(
            new_device(f"d{place}", patient=None, key=KEY, lenient_units=False, today="")
            for place in range(DEVICES)
        )
    )
    return made


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    """One gateway for all tests that do not need their own limits."""
    made = Running(folder, {})
    try:
        yield made
    finally:
        made.stop()


_NUMBERS = iter(range(DEVICES))


@pytest.fixture
def stranger(running: Running, caplog: pytest.LogCaptureFixture) -> Iterator[Peer]:
    """A node that has said nothing yet. At the end nothing may have gone wrong in the gateway."""
    made = Peer(running.address, f"d{next(_NUMBERS)}")
    before = running.bugs()
    yield made
    made.close()
    _no_bug(running, caplog, before)


@pytest.fixture
def peer(stranger: Peer) -> Peer:
    """A node with an association."""
    stranger.shake_hands()
    return stranger


def _no_bug(running: Running, caplog: pytest.LogCaptureFixture, before: int = 0) -> None:
    assert running.bugs() == before
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


# -- below CoAP: datagrams and handshakes

_HELLO_VERSION = 13 + 12
"""Where client_version stands in a datagram with a ClientHello."""


def _hello() -> bytes:
    client = Client(OpensslClient(b"d0", KEY, psk_suites()), mtu=1232, now=0.0)
    return client.outgoing[0]


def test_a_hello_cut_anywhere(stranger: Peer) -> None:
    """Silence for every part of a ClientHello, then a handshake as ever."""
    hello = _hello()
    for length in range(len(hello)):
        stranger.send(hello[:length])
    stranger.send(hello)
    answer = stranger.receive()
    assert answer is not None
    assert answer[13] == 3, "the first answer is the HelloVerifyRequest for the whole hello"
    stranger.shake_hands()
    stranger.is_well()


@pytest.mark.parametrize("size", [0, 1, 12, 13, 1281, 1500, 9000, 65_507])
@pytest.mark.parametrize("first", [0x00, 0x16, 0x17, 0xFF])
def test_datagrams_of_any_size_before_and_after_a_handshake(
    stranger: Peer, size: int, first: int
) -> None:
    """Silence, and the association does not suffer."""
    junk = bytes([first] * min(size, 1)) + b"\xfe\xfd" * size
    stranger.send(junk[:size])
    stranger.shake_hands()
    stranger.send(junk[:size])
    stranger.is_silent()
    stranger.is_well()


def test_another_dtls_version(stranger: Peer) -> None:
    """A hello of DTLS 1.0 is told so by an alert that is smaller than it; what is no DTLS at all
    gets nothing."""
    hello = bytearray(_hello())
    hello[_HELLO_VERSION : _HELLO_VERSION + 2] = b"\xfe\xff"
    stranger.send(bytes(hello))
    assert stranger.receive() == b"\x15\xfe\xff" + bytes(8) + b"\0\2" + b"\x02\x46"
    of_tls = bytearray(_hello())
    of_tls[1:3] = b"\x03\x03"
    stranger.send(bytes(of_tls))
    stranger.shake_hands()
    stranger.is_well()


def test_junk_before_within_and_after_a_handshake(stranger: Peer) -> None:
    """Random bytes, and records that look right, change nothing."""
    chance = random.Random(8)
    junk = [chance.randbytes(chance.randrange(1, 200)) for _ in range(50)]
    for content_type in (20, 21, 22, 23, 24, 25, 99):
        for epoch in (0, 1, 2):
            head = struct.pack("!BHHHIH", content_type, 0xFEFD, epoch, 0, 7, 40)
            junk.append(head + chance.randbytes(40))
    # A close_notify and a fatal alert that nobody has authenticated.
    junk += [b"\x15\xfe\xfd" + bytes(8) + b"\0\2" + alert for alert in (b"\1\0", b"\2\x28")]
    for one in junk:
        stranger.send(one)
    stranger.shake_hands()
    for one in junk:
        stranger.send(one)
    stranger.is_silent()
    stranger.is_well()


def test_a_record_twice_or_changed(peer: Peer) -> None:
    """A replayed record is not answered again, a changed one not at all."""
    mid = peer.next_mid()
    record = peer.protect(wire.encode(Message(Type.CON, Code.EMPTY, mid)))
    peer.send(record)
    assert peer.hear() == wire.reset(mid)
    peer.send(record)
    changed = bytearray(peer.protect(wire.encode(Message(Type.CON, Code.EMPTY, mid + 1))))
    changed[-1] ^= 1
    peer.send(bytes(changed))
    peer.is_silent()
    peer.is_well()


def test_an_unknown_identity_looks_like_a_wrong_key(running: Running, stranger: Peer) -> None:
    """The same alert, so that nobody can list the devices; then the right key. Only its number
    counts the flights that were repeated before."""
    refusals = []
    for identity, key in (("nobody", KEY), (stranger.device, b"another-key-here"), ("", KEY)):
        with pytest.raises(DtlsError):
            stranger.shake_hands(key, identity)
        refusals.append(stranger.refusal[:5] + stranger.refusal[11:])
    assert len(set(refusals)) == 1
    assert refusals[0][:3] + refusals[0][-2:] == b"\x15\xfe\xfd\x02\x33"
    stranger.shake_hands()
    stranger.is_well()


# -- CoAP that cannot be read


_MALFORMED = {
    **{f"token length {n}": f"{0x40 | n:02x}02MID" + "00" * n for n in range(9, 16)},
    **{
        f"code {dotted(code)}": f"40{code:02x}MID"
        for code in (0x20, 0x21, 0x3F, 0xC0, 0xDF, 0xE0, 0xE1, 0xFF)
    },
    "option delta 15": "4002MID" + "f000",
    "option length 15": "4002MID" + "bf00",
    "option delta cut short": "4002MID" + "d0",
    "option length cut short": "4002MID" + "be01",
    "option value cut short": "4002MID" + "b576",
    "option number above 65535": "4002MID" + "e0fff0" + "e0fff0",
    "payload marker without payload": "4002MID" + "b176" + "1170" + "ff",
    "a path that is not UTF-8": "4002MID" + "b2c328",
    "a query that is not UTF-8": "4001MID" + "d102ff",
    "too many options": "4002MID" + "b0" + "00" * 100,
    "token cut short": "4802MID" + "0102",
    "empty with a token": "4100MID" + "01",
    "empty with a payload": "4000MID" + "ff01",
}


@pytest.mark.parametrize("rest", _MALFORMED.values(), ids=_MALFORMED.keys())
def test_malformed_coap(peer: Peer, rest: str) -> None:
    """Confirmable: a Reset with its Message ID. Any other type: silence. (RFC 7252 section 4.2)"""
    mid = peer.next_mid()
    datagram = bytearray(bytes.fromhex(rest.replace("MID", f"{mid:04x}")))
    peer.say(bytes(datagram))
    assert peer.hear() == wire.reset(mid)
    for kind in (Type.NON, Type.ACK, Type.RST):
        datagram[0] = datagram[0] & 0xCF | kind << 4
        peer.say(bytes(datagram))
    peer.is_silent()
    peer.is_well()


@pytest.mark.parametrize("datagram", ["", "40", "4002", "400200"])
def test_shorter_than_a_header(peer: Peer, datagram: str) -> None:
    """Silence: there is no Message ID to reject."""
    peer.say(bytes.fromhex(datagram))
    peer.is_silent()
    peer.is_well()


@pytest.mark.parametrize("version", [0, 2, 3])
def test_another_coap_version(peer: Peer, version: int) -> None:
    """Silence (RFC 7252 section 3), though it is Confirmable."""
    peer.say(bytes((version << 6, Code.POST, 0, 9)) + b"\xb1v\xff0")
    peer.is_silent()
    peer.is_well()


@pytest.mark.parametrize("kind", [Type.CON, Type.NON, Type.ACK])
def test_answers_that_nobody_asked_for(peer: Peer, kind: Type) -> None:
    """A Confirmable one is rejected, the others are ignored (RFC 7252 section 4.2)."""
    mid = peer.next_mid()
    peer.say(wire.encode(Message(kind, Code.CONTENT, mid, b"none", (), b"x")))
    if kind is Type.CON:
        assert peer.hear() == wire.reset(mid)
    peer.is_silent()
    peer.is_well()


def test_critical_options(peer: Peer) -> None:
    """4.02 that names the option; without a word for a Non-confirmable request (section 5.4.1)."""
    for number in (9, 19, 65_001):
        answer = peer.request("v", GOOD, more=((number, b"x"),))
        assert dotted(answer.code) == "4.02"
        assert str(number).encode() in answer.payload
        non = Message(Type.NON, Code.POST, peer.next_mid(), b"n", ((number, b"x"),), b"x")
        peer.say(wire.encode(non))
        peer.is_silent()
    assert dotted(peer.request("v", GOOD, more=((65_000, b"x"),)).code) == "2.04"
    peer.is_well()


# -- CoAP that can be read and is refused

_BOMBS = {
    "arrays in arrays": b"\x81" * 1000 + b"\xf6",
    "maps in maps": b"\xa1\x00" * 500 + b"\xf6",
    "tags on tags": b"\xc1" * 1000 + b"\x00",
    "an array of 2^64 items": b"\x9b" + b"\xff" * 8,
    "a map of 2^64 items": b"\xbb" + b"\xff" * 8,
    "a text of 2^63 bytes": b"\x81\xa1\x00\x7b\x7f" + b"\xff" * 7,
    "bytes of 2^32": b"\x81\xa1\x08\x5a\xff\xff\xff\xff",
    "an array without an end": b"\x9f" * 900,
    "a big number": b"\x81\xa2\x00bhr\x02\xc2\x59\x03\xe8" + b"\xff" * 1000,
    "a decimal fraction": b"\x81\xa2\x00bhr\x02\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",
    "a date": b"\x81\xa2\x00bhr\x02\xc0\x63abc",
    "a regular expression": b"\x81\xa2\x00bhr\x02\xd8\x23\x6c(a+)+$aaaaaaa",
    "shared references": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a label twice": b"\x81\xa3\x00bhr\x02\x18\x48\x02\x18\x49",
    "more behind it": GOOD + b"\x00",
    "cut short": GOOD[:-1],
    "not UTF-8": b"\x81\xa2\x00\x62\xc3\x28\x02\x18\x48",
    "257 records": cbor2.dumps([{2: 1}] * 257),
}
_NOT_SENML: dict[str, object] = {
    "a number": 1,
    "a text": "hr",
    "a map": {0: "hr", 2: 72},
    "nothing": None,
    "an empty pack": [],
    "an empty record": [{}],
    "a record that is a number": [72],
    "no name": [{2: 72}],
    "no value": [{0: "hr"}],
    "two values": [{0: "hr", 2: 72, 3: "72"}],
    "a name that is a number": [{0: 1, 2: 72}],
    "a value that is a text": [{0: "hr", 2: "72"}],
    "a value that is a truth": [{0: "hr", 2: True}],
    "a name with a space": [{0: "h r", 2: 72}],
    "a version to come": [{-1: 99, 0: "hr", 2: 72}],
    "a label that must be understood": [{0: "hr", 2: 72, "x_": 1}],
    "a time in the year 3000": [{0: "hr", 2: 72, 6: 4.0e10}],
}
_ABSURD: dict[str, tuple[str, str | None, float]] = {
    "not a number": ("hr", "1/min", math.nan),
    "infinite": ("hr", "1/min", math.inf),
    "minus infinite": ("temp", "Cel", -math.inf),
    "beyond all": ("hr", "1/min", 1e300),
    "hr 10000": ("hr", "1/min", 10_000),
    "hr -1": ("hr", "1/min", -1),
    "temp -300": ("temp", "Cel", -300),
    "spo2 in %": ("spo2", "%", 97),
    "hr in degrees": ("hr", "Cel", 36),
}


def _refused(peer: Peer, payload: bytes, content_format: int, expected: set[str]) -> None:
    """By both lanes of ingress, Confirmable or not, to either resource."""
    for path in ("v", "alarm"):
        for kind in (Type.CON, Type.NON):
            # An elective option sends it to the lane of the full implementation.
            for more in ((), ((65_000, b"x"),)):
                answer = peer.request(path, payload, content_format, kind=kind, more=more)
                assert dotted(answer.code) in expected, answer
                assert answer.payload.decode(), "no reason given"
    peer.is_well()


@pytest.mark.parametrize("payload", _BOMBS.values(), ids=_BOMBS.keys())
def test_cbor_bombs(peer: Peer, payload: bytes) -> None:
    """Refused before they cost anything."""
    began = time.thread_time()
    _refused(peer, payload, CBOR, {"4.00", "4.13"})
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("pack", _NOT_SENML.values(), ids=_NOT_SENML.keys())
def test_what_is_not_senml(peer: Peer, pack: object) -> None:
    """4.00, with the reason."""
    _refused(peer, cbor2.dumps(pack), CBOR, {"4.00"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 1000,
        '[{"n":' * 150,
        '[{"n":"hr","v":1e999}]',
        '[{"n":"hr","v":NaN}]',
        '[{"n":"hr","v":-Infinity}]',
        '[{"n":"hr","v":' + "9" * 1000 + "}]",
        '[{"n":"hr","vs":"\\ud800"}]',
        '[{"n":"hr","v":72,"v":73}]',
        '[{"n":"hr","v":72}] []',
        "\ufeff[]",
        "\x00",
    ],
)
def test_json_that_is_not_senml(peer: Peer, text: str) -> None:
    """4.00, with the reason."""
    _refused(peer, text.encode() or b" ", JSON, {"4.00"})


@pytest.mark.parametrize(("name", "unit", "value"), _ABSURD.values(), ids=_ABSURD.keys())
def test_absurd_values(peer: Peer, name: str, unit: str | None, value: float) -> None:
    """4.00: a value that no body has is a fault of the sensor, and is told to it."""
    _refused(peer, cbor2.dumps([{0: name, 1: unit, 2: value}]), CBOR, {"4.00"})


@pytest.mark.parametrize("name", ["d399", "d399/", "d", "", "../d0", "d3990/"])
def test_a_foreign_name(peer: Peer, name: str) -> None:
    """4.03 for another device's base name, 4.00 if it is no name at all."""
    expected = {"4.03"} if name.startswith("d") else {"4.00", "4.03"}
    if name:
        _refused(peer, cbor2.dumps([{-2: name, 0: "hr", 2: 72}]), CBOR, expected)
    _refused(peer, cbor2.dumps([{0: f"{name}/hr", 2: 72}]), CBOR, expected)


@pytest.mark.parametrize("content_format", [None, 0, 50, 60, 16, 111, 113, 65_000])
def test_another_content_format(peer: Peer, content_format: int | None) -> None:
    """4.15, whatever the payload is."""
    for kind in (Type.CON, Type.NON):
        answer = peer.request("v", GOOD, content_format, kind=kind)
        assert dotted(answer.code) == "4.15", answer
    assert dotted(peer.request("s", b"\x83\x40\xa0\x40", CBOR).code) == "4.15"
    peer.is_well()


@pytest.mark.parametrize("code", [1, 4, 5, 6, 7, 8, 31])
def test_another_method(peer: Peer, code: int) -> None:
    """4.05, unknown methods included (RFC 7252 section 5.8); 4.04 where nothing is."""
    for kind in (Type.CON, Type.NON):
        assert dotted(peer.request("v", GOOD, kind=kind, code=code).code) == "4.05"
        assert dotted(peer.request("x", GOOD, kind=kind, code=code).code) == "4.04"
    peer.is_well()


def test_proxying(peer: Peer) -> None:
    """5.05: nobody is reached through the gateway."""
    option = ((int(Option.PROXY_URI), b"http://127.0.0.1/"),)
    assert dotted(peer.request("", more=option, code=Code.GET).code) == "5.05"
    peer.is_well()


def test_too_large(peer: Peer) -> None:
    """4.13 with Size1, for a body announced as such, one that becomes so, and a datagram."""
    announced = (
        (int(Option.BLOCK1), Block(0, more=True, exponent=6).encode()),
        (int(Option.SIZE1), uint(9000)),
    )
    answer = peer.request("v", bytes(1024), more=announced)
    assert (dotted(answer.code), answer.uint(Option.SIZE1)) == ("4.13", 8192)
    codes = []
    for number in range(9):
        block = ((int(Option.BLOCK1), Block(number, more=True, exponent=6).encode()),)
        answer = peer.request("v", bytes(1024), more=block)
        codes.append(dotted(answer.code))
        if codes[-1] != "2.31":
            break
    assert codes[-1] == "4.13"
    assert answer.uint(Option.SIZE1) == 8192
    answer = peer.request("v", bytes(1300))
    assert (dotted(answer.code), answer.uint(Option.SIZE1)) == ("4.13", 8192)
    assert answer.value(Option.BLOCK1) is not None, "the size of block to use"
    peer.is_well()


def test_blocks_out_of_order(peer: Peer) -> None:
    """4.08 for a block without the ones before it; a reserved size is 4.00."""
    for number in (3, 1):
        block = ((int(Option.BLOCK1), Block(number, more=False, exponent=2).encode()),)
        assert dotted(peer.request("v", bytes(64), more=block).code) == "4.08"
    assert (
        dotted(peer.request("v", bytes(64), more=((int(Option.BLOCK1), b"\x0f"),)).code) == "4.00"
    )
    peer.is_well()


# -- limits


def _own(folder: Path, tmp_path: Path, **environment: str) -> Running:
    shutil.copytree(folder, tmp_path / "ward", ignore=shutil.ignore_patterns("outbox*", "*.sock"))
    return Running(
        tmp_path / "ward", {f"WARD_GATEWAY_{key}": value for key, value in environment.items()}
    )


def test_over_its_rate(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """4.29 with Max-Age to the device that is too fast, and silence if it goes on; a second later
    it is served again, and all the time its emergencies and everybody else are."""
    running = _own(folder, tmp_path, LIMITS__DEVICE_MESSAGES_PER_S="5")
    try:
        fast, other = Peer(running.address, "d0"), Peer(running.address, "d1")
        fast.shake_hands()
        other.shake_hands()
        taken = 0
        for kind in (Type.CON, Type.NON):
            while (answer := fast.request("v", GOOD, kind=kind)).code == Code.CHANGED:
                taken += 1
                assert taken < 100, "the bucket holds two seconds' worth"
            assert dotted(answer.code) == "4.29"
            assert answer.uint(Option.MAX_AGE) == 1
        assert dotted(fast.request("a", GOOD).code) == "2.04"
        other.is_well()
        # Its Max-Age has passed when the bucket has filled: ask the gateway, do not wait.
        deadline = time.monotonic() + WITHIN_S
        options = ((int(Option.URI_PATH), b"v"), (int(Option.CONTENT_FORMAT), bytes((CBOR,))))
        served = False
        while not served:
            assert time.monotonic() < deadline
            mid = fast.next_mid()
            fast.say(wire.encode(Message(Type.CON, Code.POST, mid, b"", options, GOOD)))
            with contextlib.suppress(AssertionError):  # silence
                served = fast.answer(mid, 0.2).code == Code.CHANGED
        _no_bug(running, caplog)
        fast.close()
        other.close()
    finally:
        running.stop()


def test_a_full_outbox(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """5.03 with Max-Age for the routine, while an emergency is still taken; at last for both."""
    running = _own(
        folder,
        tmp_path,
        LIMITS__DEVICE_MESSAGES_PER_S="0",
        OUTBOX__MAX_BYTES="65536",
        OUTBOX__RESERVE_BYTES="32768",
    )
    pack = cbor2.dumps([{0: "note", 3: "x" * 1000}])
    try:
        peer = Peer(running.address, "d0")
        peer.shake_hands()
        for path, other in (("v", "a"), ("a", "v")):
            taken = 0
            while (answer := peer.request(path, pack)).code == Code.CHANGED:
                taken += 1
                assert taken < 65
            assert taken > 10
            for kind in (Type.CON, Type.NON):
                answer = peer.request(path, pack, kind=kind)
                assert dotted(answer.code) == "5.03"
                assert answer.uint(Option.MAX_AGE) == 60
            assert dotted(peer.request(other, pack).code) == ("2.04" if path == "v" else "5.03")
        status = running.status()["outbox"]
        assert 60_000 < status["size"] <= 65_536
        assert status["lanes"]["routine"]["refused"] >= 4
        peer.is_silent()
        _no_bug(running, caplog)
        peer.close()
    finally:
        running.stop()
