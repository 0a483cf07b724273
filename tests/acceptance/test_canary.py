"""No vital sign reaches a disk or a log unsealed: looked for by values that occur nowhere else."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2

if TYPE_CHECKING:
    from tests.acceptance.ward import Ward

_WORDS = "CANARY-perched-on-a-drip-stand"
_RATE = 61.803398875
_NEEDLES = (
    _WORDS.encode(),
    b"61.803398875",
    struct.pack(">d", _RATE),  # CBOR
    struct.pack("<d", _RATE),  # this machine's memory
)


def _found(folder: Path) -> dict[str, list[bytes]]:
    """Files with a needle in them, and which."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            needles = [needle for needle in _NEEDLES if needle in content]
            if needles:
                found[path.name] = needles
    return found


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """Each needle is found in a file of any name, at any depth."""
    (tmp_path / "deep").mkdir()
    for place, needle in enumerate(_NEEDLES):
        (tmp_path / "deep" / f"{place}.db-wal").write_bytes(b"\0" * 5000 + needle + b"\0" * 5000)
    assert _found(tmp_path) == {
        f"{place}.db-wal": [needle] for place, needle in enumerate(_NEEDLES)
    }


def test_no_value_is_on_disk_unsealed(ward: Ward, tmp_path: Path) -> None:
    """Neither state, nor the cloud's database, nor a log has the canary, at any moment; both
    recipients do."""
    device = ward.enter("bracelet-1", "P1")
    ward.start_gateway()
    records = [
        {0: "hr", 1: "1/min", 2: _RATE},
        {0: "note", 3: _WORDS},
        {0: "temp", 1: "Cel", 2: _RATE - 25},
    ]
    good = tmp_path / "good.cbor"
    good.write_bytes(cbor2.dumps(records))
    text = f'[{{"n":"hr","u":"1/min","v":{_RATE}}},{{"n":"note","vs":"{_WORDS}"}}]'
    refused = (  # for the logs: what is wrong is told to the device, not to the disk
        f'[{{"n":"spo2","u":"%","v":{_RATE}}}]',
        f'[{{"n":"hr","u":"{_WORDS}","v":{_RATE}}}]',
        f'[{{"bn":"{_WORDS}/","n":"hr","v":{_RATE}}}]',
        f'[{{"n":"hr","v":{_RATE},"vs":"{_WORDS}"}}',
    )
    cbor = ("-m", "post", "-t", "112", "-f", str(good))
    json = ("-m", "post", "-t", "110", "-e")
    for path in ("v", "a"):
        assert "c:2.04" in ward.coap_client("openssl", device, path, *cbor)
        assert "c:2.04" in ward.coap_client("openssl", device, path, *json, text)
        for one in refused:
            said = ward.coap_client("openssl", device, path, *json, one)
            assert "c:4.0" in said, said
    assert "c:4.0" in ward.coap_client("openssl", device, _WORDS, "-m", "post", "-e", _WORDS)

    # Waiting in the outbox, its write-ahead log included.
    assert ward.waiting("routine") == ward.waiting("emergency") == 2
    assert (ward.state / "outbox.db-wal").stat().st_size > 0
    assert _found(tmp_path / "ward") == _found(tmp_path / "logs") == {}

    ward.start_cloud()
    ward.delivered()
    assert (ward.folder / "cloud" / "cloud.db-wal").stat().st_size > 0
    assert _found(tmp_path / "ward") == _found(tmp_path / "logs") == {}
    for name in ("doctor", "alarm-centre"):
        first, second = ward.opened(name)
        for record in (first, second):
            assert record.records is not None
            assert record.records[0].value == _RATE
            assert record.records[1].text == _WORDS

    assert ward.stop_gateway() == 0
    assert ward.stop_cloud() == 0
    assert {"outbox.db", "cloud.db", "gateway.log"} <= {one.name for one in tmp_path.rglob("*")}
    assert _found(tmp_path / "ward") == _found(tmp_path / "logs") == {}
