"""The story of the README, typed by hand: other people's clients in, recipients' readers out."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

import cbor2
import pytest

from gateway.coap.numbers import Code
from gateway.lane import Lane

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Ward

_FIELDS = {
    "id",
    "gateway",
    "device",
    "patient",
    "lane",
    "received",
    "clock",
    "senml",
    "assessment",
}
_CLIENTS = ("openssl", "gnutls")


@pytest.fixture
def cbor(tmp_path: Path) -> str:
    """A pack in a file, for Content-Format 112."""
    path = tmp_path / "pack.cbor"
    path.write_bytes(cbor2.dumps([{0: "hr", 1: "1/min", 2: 72}]))
    return str(path)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A pack in a file, for Content-Format 110."""
    path = tmp_path / "pack.json"
    path.write_text('[{"n":"spo2","u":"/100","v":97}]')
    return str(path)


def _codes(said: str) -> list[str]:
    """Type and code of each message that came."""
    return [
        f"{kind} {code}"
        for kind, code in re.findall(r"t:(\w+) c:([\d.]+) i:", said)
        if code[0] in "245"
    ]


def test_two_clients_send_and_each_recipient_reads_its_lane(
    new_ward: Ward, cbor: str, text: str
) -> None:
    """CBOR and JSON are stored and read by the doctor; an alarm by the alarm centre alone."""
    ward = new_ward
    ward.init()
    device = ward.add_device("bracelet-1", "P1")
    ward.start()
    said = ward.coap_client("openssl", device, "v", "-m", "post", "-t", "112", "-f", cbor)
    assert _codes(said) == ["ACK 2.04"], said
    said = ward.coap_client("gnutls", device, "v", "-m", "post", "-t", "110", "-f", text)
    assert _codes(said) == ["ACK 2.04"], said
    ward.delivered()

    records = ward.read("doctor")
    assert [set(record) for record in records] == [_FIELDS, _FIELDS]
    for record in records:
        assert re.fullmatch(r"[0-9a-f]{32}", record["id"])
        assert record["gateway"] == "gateway"
        assert record["device"] == "bracelet-1"
        assert record["patient"] == "P1"
        assert record["lane"] == "routine"
        assert record["clock"] in ("synchronised", "unsynchronised")  # as this machine's
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["received"])
        assert set(record["assessment"]) == {"priority", "findings", "news2"}
        assert record["assessment"]["priority"] == "routine"
        assert record["assessment"]["findings"] == []
        assert set(record["assessment"]["news2"]) == {"score", "red", "missing"}
        received = datetime.fromisoformat(record["received"]).timestamp()
        assert [one.pop("t") for one in record["senml"]] == [pytest.approx(received, abs=0.01)]
    assert [record["senml"] for record in records] == [
        [{"n": "bracelet-1/hr", "u": "1/min", "v": 72}],
        [{"n": "bracelet-1/spo2", "u": "/100", "v": 97}],
    ]

    said = ward.coap_client("openssl", device, "a", "-m", "post", "-t", "112", "-f", cbor)
    assert _codes(said) == ["ACK 2.04"], said
    ward.delivered()
    [alarm] = ward.read("alarm-centre")
    assert alarm["lane"] == alarm["assessment"]["priority"] == "emergency"
    [finding] = alarm["assessment"]["findings"]
    assert set(finding) == {"rule", "priority", "detail", "since"}
    assert finding["rule"] == "declared"
    assert [one.id.hex() for one in ward.opened("doctor")] == [one["id"] for one in records]
    assert ward.read("doctor", "--lane", "emergency") == []
    assert ward.read("patient") == []  # has nobody's bed yet

    [listed] = json.loads(ward.ask("alarm", "list", "--json"))
    assert listed["id"] == alarm["id"]
    assert (listed["rule"], listed["patient"], listed["device"]) == ("declared", "P1", device.id)
    ward.assert_no_bugs()


def test_a_patient_reads_everything_of_their_own(ward: Ward) -> None:
    """`recipient add` gives a patient's reader both lanes of that patient and nothing else."""
    ward.ask("recipient", "add", "anna", "--role", "patient", "--patient", "P1")
    mine, other = ward.enter("bracelet-1", "P1"), ward.enter("bracelet-2", "P2")
    ward.start()
    for device, path in ((mine, "v"), (mine, "a"), (other, "v"), (other, "a")):
        assert ward.post(device, path, b'[{"n":"hr","v":70}]') == Code.CHANGED
    ward.delivered()
    # Sorted: the emergency may have overtaken.
    assert sorted((one.patient, one.lane) for one in ward.opened("anna")) == [
        ("P1", Lane.EMERGENCY),
        ("P1", Lane.ROUTINE),
    ]
    ward.assert_no_bugs()


def test_every_way_to_send(running: Ward, cbor: str, tmp_path: Path) -> None:
    """Non-confirmable, in blocks, and by the program's own `send`: all stored, all read back."""
    device = running.device
    post = ("-m", "post", "-t")
    said = running.coap_client("openssl", device, "v", "-N", *post, "112", "-f", cbor)
    assert _codes(said) == ["NON 2.04"], said
    larger = tmp_path / "larger.json"
    larger.write_text(
        json.dumps([{"n": "rr", "u": "ms", "v": 800 + i, "t": i - 30} for i in range(30)])
    )
    for library in _CLIENTS:
        said = running.coap_client(
            library, device, "vitals", "-b", "32", *post, "110", "-f", str(larger)
        )
        assert _codes(said)[-1] == "ACK 2.04", said
        assert re.search(r"Block1:\d\d/_/32", said), said
    sent = running.command(
        *("send", "--psk-identity", device.id, "--psk-key", device.key, "--json"),
        *(f"{running.uri}/v", '[{"n":"hr","u":"1/min","v":70}]'),
    )
    assert json.loads(sent)["code"] == "2.04"
    running.delivered()
    sizes = [len(one.records or ()) for one in running.opened("doctor")]
    assert sizes[-4:] == [1, 30, 30, 1]


@pytest.mark.parametrize("library", _CLIENTS)
def test_what_else_a_client_can_ask(running: Ward, library: str) -> None:
    """Discovery, time, ping, and a plain refusal for what is not there."""
    said = running.coap_client(library, running.device, ".well-known/core")
    assert _codes(said) == ["ACK 2.05"], said
    assert "application/link-format" in said
    assert '</vitals>;rt="ward.vitals"' in said
    assert '</time>;rt="ward.time"' in said
    said = running.coap_client(library, running.device, ".well-known/core?rt=ward.time")
    assert '</time>;rt="ward.time"' in said
    assert "vitals" not in said
    said = running.coap_client(library, running.device, "time", "-A", "0")
    assert _codes(said) == ["ACK 2.05"], said
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said)
    assert "application/cbor" in running.coap_client(library, running.device, "time")
    said = running.coap_client(library, running.device, "nowhere")
    assert _codes(said) == ["ACK 4.04"], said
    said = running.coap_client(library, running.device, "v")
    assert _codes(said) == ["ACK 4.05"], said


def test_a_ping_is_answered(running: Ward) -> None:
    """libcoap pings a quiet association with an Empty message: a Reset, nothing else."""
    # A separate answer that never comes keeps the client waiting, and so pinging: /v with
    # No-Response for everything (RFC 7967) is acknowledged and not answered.
    said = running.coap_client(
        *("openssl", running.device, "v", "-K", "1", "-B", "2", "-m", "post", "-t", "110"),
        *("-v", "7", "-e", '[{"n":"hr","v":70}]', "-O", "258,0x1a"),
    )
    pings = re.findall(r"t:CON c:0\.00 i:(\w+)", said)
    resets = re.findall(r"t:RST c:0\.00 i:(\w+)", said)
    assert pings, said
    assert resets == pings, said
