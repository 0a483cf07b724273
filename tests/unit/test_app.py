"""The composition root: its housekeeping survives what it meets."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest

from certs import files
from certs.authority import Authority
from certs.profiles import GATEWAY
from gateway import provision
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import loading
from gateway.dtls import selftest
from gateway.errors import ConfigError
from gateway.ingress.udp import Sockets
from gateway.roster.devices import Devices, new_device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Not started; its cloud store is nowhere."""
    folder = tmp_path / "ward"
    provision.make_ward(
        folder, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
    )
    listen = {"WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0"}
    return Gateway(loading.load(folder / "gateway.toml", listen), SystemClock())


@pytest.fixture
async def state(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Path]:
    """The state folder of a running gateway."""
    try:
        await gateway.start()
        yield tmp_path / "ward" / "state"
    finally:
        await gateway.stop()


def _renew(folder: Path) -> None:
    """A new key and certificate for the gateway, in the old places."""
    key = files.generate()
    issued = Authority.load(folder / "ca").issue(
        GATEWAY, "gateway", key.public_key(), wall=time.time()
    )
    (folder / "keys" / "gateway.key").unlink()
    files.write_private(folder / "keys" / "gateway.key", key)
    files.write_certificate(folder / "keys" / "gateway.pem", issued)


def _add(path: Path, name: str) -> None:
    Devices(path).add(new_device(name, patient=None, key=None, lenient_units=False, today=""))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- a log has no event
            await asyncio.sleep(0.02)


async def test_a_roster_that_breaks_the_reader_does_not_end_the_sweeps(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    devices = state / "devices.json"
    devices.write_text('{"version": 1, "entries": ' + "[" * 200_000)
    await _until(lambda: "a sweep was cut short" in caplog.text)
    devices.unlink()
    _add(devices, "d1")
    await _until(lambda: "1 devices may come" in caplog.text)


async def test_what_breaks_the_timers_of_peers_does_not_keep_devices_from_being_looked_at(
    gateway: Gateway, state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(gateway._server, "sweep", lambda now: 1 // 0)
    await _until(lambda: "a sweep was cut short" in caplog.text)
    _add(state / "devices.json", "d1")
    await _until(lambda: "1 devices may come" in caplog.text)


async def test_devices_are_read_again_though_the_recipients_cannot_be(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    recipients = state / "recipients.json"
    recipients.unlink()
    recipients.symlink_to(recipients)
    await _until(lambda: "a roster stays as it was" in caplog.text)
    _add(state / "devices.json", "d1")
    await _until(lambda: "1 devices may come" in caplog.text)


async def test_a_gateway_that_did_not_come_to_open_its_outbox_can_be_stopped(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the self-test finds a suite that this OpenSSL has lost."""
    monkeypatch.setattr(selftest, "psk_suites", lambda: ["NO-SUCH-SUITE"])
    try:
        with pytest.raises(Exception, match="no cipher match"):
            await gateway.start()
    finally:
        await gateway.stop()


async def test_an_outbox_that_fails_while_stopping_leaves_no_socket_open(gateway: Gateway) -> None:
    await gateway.start()
    (address,) = gateway.addresses
    await gateway._writer.close()
    await gateway.stop()
    again = Sockets([address])
    assert again.open() == [address]
    again.close()


async def test_a_reload_moves_deliveries_limits_and_certificates_and_keeps_the_rest(
    gateway: Gateway, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = state.parent / "gateway.toml"
    text = path.read_text().replace("https://127.0.0.1:1", "https://127.0.0.1:2")
    for key, value in (("max_bytes", '"2 GiB"'), ("associations", "8"), ("minutes", "1.5")):
        text, found = re.subn(rf"(?m)^# {key} = .*$", f"{key} = {value}", text)
        assert found == 1
    path.write_text(text)
    _renew(state.parent)
    addresses = gateway.addresses
    words = await gateway.reload()
    for name in ("cloud.url", "limits.associations", "outbox.max_bytes", "certificates"):
        assert name in words
    assert "waiting for a restart: coap.listen" in words, "set by the environment at the start"
    status = gateway.status()
    assert status["listen"] == addresses
    assert status["outbox"]["max_bytes"] == 2 << 30
    assert await gateway.ping() == ""


async def test_a_gateway_without_room_for_any_record_says_so_when_asked(
    gateway: Gateway, state: Path
) -> None:
    path = state.parent / "gateway.toml"
    text, found = re.subn(r"(?m)^# max_bytes = .*$", "max_bytes = 500", path.read_text())
    assert found == 1
    text, found = re.subn(r"(?m)^# reserve_bytes = .*$", "reserve_bytes = 100", text)
    path.write_text(text)
    await gateway.reload()
    assert "no room" in await gateway.ping()


async def test_a_reload_that_is_refused_changes_nothing(gateway: Gateway, state: Path) -> None:
    path = state.parent / "gateway.toml"
    path.write_text(path.read_text().replace("https://127.0.0.1:1", "http://127.0.0.1:2"))
    before = gateway.loaded
    with pytest.raises(ConfigError, match="must begin with https"):
        await gateway.reload()
    assert gateway.loaded is before
