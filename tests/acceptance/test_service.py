"""The gateway as its operator has it: what the service manager hears, what monitoring reads, what a
reload takes over; alone and with workers."""

from __future__ import annotations

import http.client
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certs import files
from certs.authority import Authority
from certs.profiles import GATEWAY
from tests.acceptance.ward import until
from tests.experiments.rigs.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.ward import Ward

_PACK = b'[{"n":"hr","u":"1/min","v":72}]'


@pytest.fixture
def manager(ward: Ward, tmp_path: Path) -> Iterator[Manager]:
    """Whose watchdog never bites."""
    made = Manager(ward, tmp_path, watchdog_s=60)
    yield made
    made.close()


def _get(ward: Ward, path: str, *, token: bool = True) -> tuple[int, str]:
    asked = http.client.HTTPConnection("127.0.0.1", ward.port_base + 2, timeout=10)
    secret = (ward.state / "console.token").read_text().strip()
    asked.request("GET", path, headers={"Authorization": f"Bearer {secret}"} if token else {})
    answer = asked.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        asked.close()


def _figure(ward: Ward, name: str, **labels: str) -> float:
    status, text = _get(ward, "/metrics")
    assert status == 200, text
    (found,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if (sample.name, sample.labels) == (f"ward_gateway_{name}", labels)
    )
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_the_life_of_a_service(ward: Ward, manager: Manager, workers: int) -> None:
    ward.environment["WARD_GATEWAY_COAP__WORKERS"] = str(workers)
    device = ward.enter("bracelet-1")
    good = ward.config.read_text()
    elsewhere = re.sub(r'(?m)^url = ".*"$', 'url = "https://127.0.0.1:1"', good)
    assert elsewhere != good
    ward.config.write_text(elsewhere)
    ward.start_cloud()
    manager.start()
    assert manager.status.startswith("listening on coaps")

    # What monitoring reads.
    assert _get(ward, "/healthz", token=False) == (200, "ok\n")
    assert _get(ward, "/readyz", token=False) == (200, "ready\n")
    assert _get(ward, "/metrics", token=False)[0] == 401
    assert ward.post(device, "v", _PACK) == 0x44
    until(lambda: _figure(ward, "queue_records", lane="routine") == 1)
    until(lambda: _figure(ward, "sink_up", lane="routine") == 0)
    assert _figure(ward, "coap_requests_total", outcome="admitted") == 1

    # A bad configuration changes nothing, in any worker, and the service manager is told why.
    assert ward.gateway is not None
    ward.config.write_text(good.replace("https://", "http://"))
    ward.gateway.send_signal(signal.SIGHUP)
    _until_told(manager, "reload refused")
    assert "must begin with https://" in manager.status
    assert ward.post(device, "v", _PACK) == 0x44

    # A good one does: what waits goes to where the cloud store really is.
    ends = _issue(ward.folder, "next.pem")
    assert _figure(ward, "certificate_expiry_timestamp_seconds") != ends
    renewed, found = re.subn(r"(?m)^# certificate = .*$", 'certificate = "keys/next.pem"', good)
    assert found == 1
    ward.config.write_text(renewed)
    ward.gateway.send_signal(signal.SIGHUP)
    _until_told(manager, "reloaded, changed: gateway.certificate, cloud.url")
    assert _figure(ward, "certificate_expiry_timestamp_seconds") == ends
    ward.delivered()
    assert len(ward.read("doctor")) == 2

    # And the end.
    manager.listen(0.5)
    assert ward.stop_gateway() == 0
    manager.listen(0.2)
    assert "STOPPING" in manager.heard
    assert "RELOADING" in manager.heard
    assert "Traceback" not in ward.log("gateway")


def _issue(folder: Path, name: str) -> float:
    """Another certificate for the gateway's key; when it ends."""
    key = files.load_private(folder / "keys" / "gateway.key")
    issued = Authority.load(folder / "ca").issue(
        GATEWAY, "gateway", key.public_key(), wall=time.time(), days=40
    )
    files.write_certificate(folder / "keys" / name, issued)
    return issued.not_valid_after_utc.timestamp()


def _until_told(manager: Manager, status: str) -> None:
    def told() -> bool:
        manager.listen(0.05)
        return any(one.startswith(status) for one in manager.statuses)

    until(told)
    manager.status = next(one for one in manager.statuses if one.startswith(status))
