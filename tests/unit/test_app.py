"""The composition root: its housekeeping survives what it meets."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from gateway import provision
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import loading
from gateway.dtls import selftest
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
