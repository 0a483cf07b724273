"""Certificates with other people's DTLS clients: every suite that they have, every refusal as they
see it.

The table is {coap-client-openssl, coap-client-gnutls, openssl s_client} x {CCM_8, GCM}; a client
cannot be told a suite on its command line (but for s_client), so the server has one only.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from certs import files
from certs.authority import Authority
from certs.profiles import CLOUD_STORE, DEVICE, GATEWAY, Profile
from gateway.coap import message
from gateway.coap.message import Message
from gateway.coap.numbers import Code, Type
from gateway.dtls.association import Path as Address
from gateway.dtls.cookie import Cookies
from gateway.dtls.credentials import Identity
from gateway.dtls.engines.openssl import OpensslServer
from gateway.dtls.records import SUITES
from gateway.dtls.server import Config, Server
from gateway.roster.devices import Devices, new_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CCM_8, GCM = "ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"
DAY = 86_400.0
_WITHIN_S = 10.0
_LOOK_S = 0.05


class Listener:
    """The DTLS room on a socket of its own, answering every request 2.04."""

    def __init__(self, devices: Devices, identity: Identity, suites: Iterable[str]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_LOOK_S)
        self.port: int = self._socket.getsockname()[1]
        source = os.urandom
        engines = OpensslServer(devices, source(32), suites, identity)
        self._server = Server(Config(), engines, Cookies(source(32), source), first_number=1)
        self.seen: list[tuple[str, str]] = []
        """Device and suite of every request."""
        self.heard = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended:
            now = time.monotonic()
            try:
                datagram, sender = self._socket.recvfrom(65_535)
            except TimeoutError:
                self._server.sweep(now)
            else:
                self._take(datagram, Address(0, sender), now)
            out, self._server.outgoing = self._server.outgoing, []
            for datagram, path in out:
                self._socket.sendto(datagram, path.address)

    def _take(self, datagram: bytes, path: Address, now: float) -> None:
        association, plaintexts = self._server.receive(datagram, path, now) or (None, ())
        for plaintext in plaintexts:
            assert association is not None
            asked = message.decode_untrusted(plaintext)
            answer = Message(Type.ACK, Code.CHANGED, asked.mid, asked.token, (), b"")
            self.seen.append((association.endpoint.device, association.suite))
            self.heard.set()
            out = association.protect(message.encode(answer))
            self._socket.sendto(out, path.address)

    def end(self) -> None:
        self._ended = True
        self._thread.join(_WITHIN_S)
        assert not self._thread.is_alive()
        self._socket.close()


class Bearer(NamedTuple):
    """Files of a node."""

    certificate: Path
    key: Path
    authority: Path


class Site:
    """Two authorities, a roster, and whatever certificates a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall = time.time()
        self.ward = Authority.passing("Ward 7", wall=self.wall - 90 * DAY)
        self.other = Authority.passing("Ward 8", wall=self.wall - 90 * DAY)
        self.devices = Devices(folder / "devices.json")
        key = files.generate()
        shown = self.ward.issue(
            GATEWAY, "gateway", key.public_key(), wall=self.wall, hosts=("localhost", "127.0.0.1")
        )
        self.gateway = Identity(shown, key, self.ward.certificate)
        self._listeners: list[Listener] = []

    def bearer(
        self,
        name: str,
        kind: Profile = DEVICE,
        *,
        authority: Authority | None = None,
        wall: float | None = None,
        days: int | None = None,
    ) -> Bearer:
        """Entered, if it is a device."""
        key = files.generate()
        hosts = ("localhost",) if kind.hosts else ()
        certificate = (authority or self.ward).issue(
            kind, name, key.public_key(), wall=wall or self.wall, hosts=hosts, days=days
        )
        if kind is DEVICE:
            device = new_device(name, patient=None, key=b"-", lenient_units=False, today="")
            self.devices.add(device.certified(certificate))
        found = Bearer(*(self.folder / f"{name}{end}" for end in (".pem", ".key", ".ca.pem")))
        files.write_certificate(found.certificate, certificate)
        files.write_private(found.key, key)
        files.write_certificate(found.authority, self.ward.certificate)
        return found

    def listen(self, *suites: str) -> Listener:
        self._listeners.append(Listener(self.devices, self.gateway, suites or SUITES))
        return self._listeners[-1]

    def end(self) -> None:
        for one in self._listeners:
            one.end()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def run(*command: object, stdin: bytes = b"") -> str:
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(
        words, input=stdin, capture_output=True, timeout=_WITHIN_S * 2, check=False
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def coap_client(library: str, port: int, bearer: Bearer) -> str:
    return run(
        *(f"coap-client-{library}", "-v", "6", "-B", "5", "-m", "post", "-e", "x"),
        *("-c", bearer.certificate, "-j", bearer.key, "-C", bearer.authority),
        f"coaps://127.0.0.1:{port}/v",
    )


def s_client(port: int, bearer: Bearer, suite: str, stdin: bytes = b"") -> str:
    """Debian's level of security lets a client offer no CCM_8 unless it is told so."""
    return run(
        *("openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}"),
        *("-cert", bearer.certificate, "-key", bearer.key, "-CAfile", bearer.authority),
        *("-verify_return_error", "-cipher", f"{suite}:@SECLEVEL=0"),
        stdin=stdin,
    )


@pytest.mark.parametrize("suite", [CCM_8, GCM])
@pytest.mark.parametrize("library", ["openssl", "gnutls"])
def test_libcoap_is_known_by_its_certificate(site: Site, library: str, suite: str) -> None:
    listener = site.listen(suite)
    said = coap_client(library, listener.port, site.bearer("bracelet-1"))
    assert listener.seen == [("bracelet-1", suite)], said
    assert "c:2.04" in said


@pytest.mark.parametrize("suite", [CCM_8, GCM])
def test_openssl_is_known_by_its_certificate(site: Site, suite: str) -> None:
    asked = Message(Type.CON, Code.POST, 0x4242, b"\x21", (), b"")
    listener = site.listen()
    said = s_client(listener.port, site.bearer("bracelet-1"), suite, message.encode(asked))
    assert listener.heard.wait(_WITHIN_S), said  # this client waits for no answer
    assert listener.seen == [("bracelet-1", suite)], said
    assert f"Cipher is {suite}" in said
    assert "Verify return code: 0 (ok)" in said


def test_each_client_chooses_what_the_gateway_prefers(site: Site) -> None:
    bearer = site.bearer("bracelet-1")
    listener = site.listen()
    for library in ("openssl", "gnutls"):
        coap_client(library, listener.port, bearer)
    assert listener.seen == [("bracelet-1", GCM)] * 2


REFUSED = {
    "other-ca": (48, "unknown ca"),
    "expired": (45, "certificate expired"),
    "revoked": (44, "certificate revoked"),
    "usage": (43, "unsupported certificate"),
}


def refused(site: Site, why: str) -> Bearer:
    if why == "other-ca":
        return site.bearer("bracelet-1", authority=site.other)
    if why == "expired":
        return site.bearer("bracelet-1", wall=site.wall - 20 * DAY, days=10)
    if why == "usage":
        return site.bearer("cloud", CLOUD_STORE)
    bearer = site.bearer("bracelet-1")
    site.devices.revoke("bracelet-1", today="2026-11-21T05:00:00Z")
    return bearer


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_has_its_alert_as_clients_see_it(site: Site, why: str) -> None:
    """RFC 5246 section 7.2.2."""
    number, words = REFUSED[why]
    bearer = refused(site, why)
    listener = site.listen()
    said = s_client(listener.port, bearer, GCM)
    assert re.search(rf"alert {words}.*SSL alert number {number}", said), said
    said = coap_client("openssl", listener.port, bearer)
    assert f"alert read:fatal:{words}" in said.lower(), said
    said = coap_client("gnutls", listener.port, bearer)
    assert f"Alert '{number}'" in said, said
    assert listener.seen == []
