"""Who may stay, with real rosters, a real table of associations and dates as an argument."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from certs import files
from certs.authority import Authority
from certs.profiles import DEVICE, GATEWAY
from gateway.admission import Admission
from gateway.dtls.association import Path as Address
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import Identity
from gateway.dtls.engines.openssl import (
    OpensslCertifiedClient,
    OpensslClient,
    OpensslServer,
    certificate_suites,
    psk_suites,
)
from gateway.dtls.records import SUITES
from gateway.dtls.server import Config, Server
from gateway.errors import DtlsError
from gateway.roster.devices import Devices, new_device
from gateway.roster.recipients import Recipients
from gateway.roster.ward import Ward

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.dtls.client import ClientFactory

NOW = "2026-11-21T05:00:00Z"
LATER = "9999-01-01T00:00:00Z"
KEY = b"sixteen bytes ok"
_TOLD_S = 1.0
"""When a node with a wrong key is told so, in seconds after its last flight."""
WALL = time.time()


class Bench:
    """A gateway's side, and the command line's roster beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.passing("Ward 7", wall=WALL)
        self.registry = Devices(folder / "devices.json")
        self.ward = Ward(
            Devices(folder / "devices.json"), Recipients(folder / "recipients.json"), b"s" * 32
        )
        source = random.Random(7).randbytes
        self.server = Server(
            Config(),
            OpensslServer(self.ward.devices, source(32), SUITES, self.identity(GATEWAY, "gateway")),
            Cookies(source(32), source),
            first_number=1,
        )
        self.admission = Admission(self.ward, self.server)

    def identity(self, kind, name: str) -> Identity:
        key = files.generate()
        hosts = ("localhost",) if kind.hosts else ()
        shown = self.authority.issue(kind, name, key.public_key(), wall=WALL, hosts=hosts)
        return Identity(shown, key, self.authority.certificate)

    def enter(self, name: str, *, certified: bool) -> ClientFactory:
        device = new_device(name, patient=None, key=KEY, lenient_units=False, today=NOW)
        if not certified:
            self.registry.add(device)
            return OpensslClient(name.encode(), KEY, psk_suites())
        shown = self.identity(DEVICE, name)
        self.registry.add(device.certified(shown.certificate))
        return OpensslCertifiedClient(shown, certificate_suites())

    def expires(self, name: str) -> str:
        device = self.registry.get(name)
        assert device is not None
        assert device.expires is not None
        return device.expires

    def connect(self, factory: ClientFactory, number: int = 1, *, trips: int = 4) -> None:
        """Raises DtlsError when it is refused."""
        address = Address(0, ("192.0.2.1", 40_000 + number))
        client = Client(factory, mtu=1232, now=0.0)
        for _ in range(trips):
            for datagram in client.outgoing:
                self.server.receive(datagram, address, 0.0)
            client.outgoing = []
            self._answer(client)
        self.server.sweep(_TOLD_S)
        self._answer(client)

    def _answer(self, client: Client) -> None:
        sent, self.server.outgoing = self.server.outgoing, []
        for datagram, _ in sent:
            client.receive(datagram, 0.0)

    def connected(self) -> list[str]:
        return sorted(one.endpoint.device for one in self.server.associations())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("certified", [False, True], ids=["key", "certificate"])
def test_a_device_comes_and_is_revoked(bench, caplog, certified) -> None:
    caplog.set_level("INFO")
    factory = bench.enter("d1", certified=certified)
    other = bench.enter("d2", certified=certified)
    with pytest.raises(DtlsError):
        bench.connect(factory)
    bench.admission.refresh(NOW)
    assert "2 devices may come" in caplog.text
    bench.connect(factory, 2)
    bench.connect(other, 3)
    bench.registry.revoke("d1", today=NOW)
    assert bench.connected() == ["d1", "d2"]
    bench.admission.refresh(NOW)
    assert bench.connected() == ["d2"]
    assert "associations ended, revoked: d1" in caplog.text
    with pytest.raises(DtlsError):
        bench.connect(factory, 4)


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_device_that_comes_back_under_its_name_is_another(bench, before, after) -> None:
    old = bench.enter("d1", certified=before)
    bench.admission.refresh(NOW)
    bench.connect(old)
    bench.registry.revoke("d1", today=NOW)
    new = bench.enter("d1", certified=after)
    bench.admission.refresh(NOW)
    assert bench.connected() == []
    bench.connect(new, 2)
    assert bench.connected() == ["d1"]
    with pytest.raises(DtlsError):
        bench.connect(old, 3)


def test_a_certificate_that_runs_out_ends_what_it_began(bench, caplog) -> None:
    by_certificate = bench.enter("d1", certified=True)
    by_key = bench.enter("d2", certified=False)
    silent = bench.enter("d3", certified=True)
    bench.admission.refresh(NOW)
    for number, factory in enumerate((by_certificate, by_key, silent)):
        bench.connect(factory, number)
    bench.server.close("d3", "went home")
    last = bench.expires("d1")
    bench.admission.refresh(last)  # RFC 5280 section 4.1.2.5: the last second counts
    assert bench.connected() == ["d1", "d2"]
    second_after = datetime.fromisoformat(last) + timedelta(seconds=1)
    bench.admission.refresh(second_after.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert bench.connected() == ["d2"]
    assert "associations ended, certificate expired: d1" in caplog.text
    assert "d3" not in caplog.text


def test_a_certificate_that_was_let_in_after_its_end_is_ended_the_next_time(bench) -> None:
    """Looked at before the end and finished after it, or by a clock that was set back."""
    factory = bench.enter("d1", certified=True)
    bench.admission.refresh(NOW)
    for number in range(2):
        bench.admission.refresh(LATER)
        bench.connect(factory, number)
        assert bench.connected() == ["d1"]
    bench.admission.refresh(LATER)
    assert bench.connected() == []


def test_one_roster_that_breaks_the_reader_does_not_keep_the_other_from_counting(bench) -> None:
    factory = bench.enter("d1", certified=True)
    bench.admission.refresh(NOW)
    bench.connect(factory)
    bench.registry.revoke("d1", today=NOW)
    (bench.folder / "recipients.json").write_text('{"version": 1, "entries": ' + "[" * 200_000)
    with pytest.raises(RecursionError):
        bench.admission.refresh(NOW)
    assert bench.connected() == []
