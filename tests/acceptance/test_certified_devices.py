"""Devices with certificates against a whole ward: in by every client, out by every reason."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE
from gateway.coap.numbers import Code
from gateway.roster.devices import Devices, new_device
from tests.acceptance.ward import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Ward

_PACK = b'[{"n":"hr","u":"1/min","v":72}]'
_LIFE_S = 10.0
_DAY = 86_400.0


def _add(ward: Ward, name: str) -> dict[str, Any]:
    added: dict[str, Any] = json.loads(ward.ask("device", "add", name, "--cert", "--json"))
    return added


def _post(library: str, ward: Ward, device: dict[str, Any]) -> str:
    """What libcoap's client logs of one pack."""
    message = ("-m", "post", "-t", "110", "-e", _PACK.decode())
    proof = ("-c", device["cert"], "-j", device["key"], "-C", device["ca"])
    return ward.libcoap(library, *message, *proof, f"{ward.uri}/v")


def _about_to_expire(ward: Ward, name: str) -> dict[str, str]:
    """As ``device add --cert`` would have made it a day ago but for some seconds."""
    authority = Authority.load(ward.folder / "ca")
    key = files.generate()
    shown = authority.issue(
        DEVICE, name, key.public_key(), wall=time.time() + _LIFE_S - _DAY, days=1
    )
    device = new_device(name, patient=None, key=None, lenient_units=False, today="2026-11-21")
    Devices(ward.state / "devices.json").add(device.certified(shown))
    files.write_private(ward.folder / "short.key", key)
    files.write_certificate(ward.folder / "short.pem", shown)
    return {
        "id": name,
        "cert": str(ward.folder / "short.pem"),
        "key": str(ward.folder / "short.key"),
        "ca": str(ward.folder / "ca" / "ca.pem"),
    }


def test_certificates_beside_keys(ward: Ward, tmp_path: Path) -> None:
    """One port, both kinds of clients, every pack read back by the doctor."""
    keyed = ward.enter("keyed")
    certified = [_add(ward, f"certified-{number}") for number in range(2)]
    ward.start()
    assert ward.post(keyed, "v", _PACK) == Code.CHANGED
    for library in ("openssl", "gnutls"):
        said = _post(library, ward, certified[0])
        assert re.search(r"t:ACK c:2\.04 ", said), said
    nodes = tmp_path / "nodes"
    nodes.write_text("\n".join(json.dumps(one) for one in certified))
    journal = tmp_path / "journal"
    words = ("--gateway", ward.uri, "--node-file", str(nodes), "--journal", str(journal))
    report = json.loads(ward.command("simulate", *words, "--speed", "4", "--for", "2", "--json"))
    promised = [json.loads(line) for line in journal.read_text().splitlines()]
    assert report["acknowledged"] == report["sent"] == len(promised) > 0
    ward.delivered()
    opened = [one.device for one in ward.opened("doctor") + ward.opened("alarm-centre")]
    assert len(opened) == 3 + len(promised)
    assert set(opened) == {"keyed", "certified-0", "certified-1"}
    ward.assert_no_bugs()


def test_a_certificate_that_ends_ends_the_association(ward: Ward, tmp_path: Path) -> None:
    """Revoked, or run out, while its node is connected: closed and told in the log."""
    ward.start_gateway()
    revoked = _add(ward, "lost")
    nodes = tmp_path / "nodes"
    expired = _about_to_expire(ward, "old")
    nodes.write_text(json.dumps(revoked) + json.dumps(expired))
    journal = tmp_path / "journal"
    journal.touch()
    words = ("--gateway", ward.uri, "--node-file", str(nodes), "--journal", str(journal))
    ward.spawn("bracelets", "simulate", *words)
    # Two associations may be of one of them, that began again on a busy host.
    until(lambda: all(f'"{name}"' in journal.read_text() for name in ("lost", "old")))
    ward.ask("device", "revoke", "lost")
    until(lambda: "associations ended, revoked: lost" in ward.log("gateway"))
    until(lambda: "associations ended, certificate expired: old" in ward.log("gateway"))
    until(lambda: ward.status()["associations"] == 0)
    said = _post("openssl", ward, revoked)
    assert "fatal:certificate revoked" in said.lower(), said
    said = _post("openssl", ward, expired)
    assert "fatal:certificate expired" in said.lower(), said
    ward.assert_no_bugs()
