"""What an operator does to a running gateway: devices in and out, reload, mistakes."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from gateway.coap.numbers import Code
from gateway.node.link import Link, LinkError
from tests.acceptance.ward import run, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.acceptance.ward import Device, Ward

_PROMISED_S = 2.0
_PACK = b'[{"n":"hr","u":"1/min","v":72}]'


@pytest.fixture
async def linked(ward: Ward) -> AsyncIterator[Ward]:
    """A ward whose associations end with the test."""
    yield ward
    await ward.close_links()


async def _post(link: Link) -> Code:
    answer = await link.request(Code.POST, ("v",), payload=_PACK, content_format=110)
    return Code(answer.code)


async def _post_for(link: Link, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await _post(link)
        await asyncio.sleep(0.05)


async def _opened(ward: Ward, device: Device, within_s: float) -> Link:
    """An association, as soon as the gateway lets the device in."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await ward.link(device)
        except LinkError:
            assert time.monotonic() < deadline, f"{device.id} is not let in"
            await asyncio.sleep(0.05)


async def test_devices_come_and_go_while_it_runs(linked: Ward) -> None:
    """`device add` and `device revoke` act within two seconds, on live associations as well, and
    on nobody else."""
    ward = linked
    other = ward.enter("other")
    ward.start_gateway()
    staying = await ward.link(other)

    device = ward.add_device("bracelet-1")
    link = await _opened(ward, device, _PROMISED_S)
    assert await _post(link) == Code.CHANGED

    ward.ask("device", "revoke", device.id)
    with pytest.raises(LinkError, match="closed the association"):
        await _post_for(link, _PROMISED_S)
    with pytest.raises(LinkError, match="alert"):
        await ward.link(device)
    assert await _post(staying) == Code.CHANGED

    again = ward.add_device("bracelet-1")
    assert again.key != device.key
    link = await _opened(ward, again, _PROMISED_S)
    assert await _post(link) == Code.CHANGED
    with pytest.raises(LinkError, match="alert"):
        await ward.link(device)  # the old key
    ward.assert_no_bugs()


async def test_reload(linked: Ward) -> None:
    """SIGHUP: a bad configuration is named in the log and changes nothing; a good one acts."""
    ward = linked
    device = ward.enter("bracelet-1")
    ward.start_gateway()
    assert ward.gateway is not None
    link = await ward.link(device)
    good = ward.config.read_text()

    ward.config.write_text(good + "\n[colour]\n")
    ward.gateway.send_signal(signal.SIGHUP)
    until(lambda: "level=error" in ward.log("gateway"))
    assert "reload refused" in ward.log("gateway")
    assert "[colour]: no such section" in ward.log("gateway")
    for _ in range(10):
        assert await _post(link) == Code.CHANGED
    assert ward.gateway.poll() is None

    limited = re.sub(r"(?m)^#? ?device_messages_per_s = .*$", "device_messages_per_s = 1", good)
    assert limited != good
    ward.config.write_text(limited)
    ward.gateway.send_signal(signal.SIGHUP)
    until(lambda: 'msg="reloaded' in ward.log("gateway"))
    # The bucket holds two seconds' worth.
    codes = [await _post(link) for _ in range(8)]
    assert Code.TOO_MANY_REQUESTS in codes
    assert codes[0] == Code.CHANGED
    # What the fast lane does not claim has the same rate.
    asked = [(await link.request(Code.GET, ("time",))).code for _ in range(8)]
    assert Code.TOO_MANY_REQUESTS in asked
    assert ward.stop_gateway() == 0


def test_a_second_gateway_on_the_same_state(ward: Ward) -> None:
    """It says why it does not start, and the first one does not suffer."""
    device = ward.enter("bracelet-1")
    ward.start_gateway()
    elsewhere = {"WARD_GATEWAY_COAP__LISTEN": "127.0.0.1:0"}
    said = run("--config", str(ward.config), "run", environment=elsewhere, code=1)
    assert "Traceback" not in said
    assert str(ward.state / "outbox.db") in said
    assert "in use" in said
    assert ward.post(device, "v", _PACK) == Code.CHANGED
    assert ward.status()["outbox"]["lanes"]["routine"]["rows"] == 1
    assert ward.stop_gateway() == 0


def test_a_bad_configuration_names_everything(ward: Ward) -> None:
    """Exit code 78, and one line for each problem, with what there is instead."""
    text = ward.config.read_text()
    broken = text.replace('ward = "W1"', 'wart = "W1"\nname = 7') + "\n[nonsense]\n"
    assert "wart" in broken
    ward.config.write_text(broken)
    ward.environment |= {
        "WARD_GATEWAY_COAP__LISTEN": "nowhere",
        "WARD_GATEWAY_LIMITS__ASSOCIATIONS": "-1",
        "WARD_GATEWAY_LIMITS__COLOUR": "red",
    }
    said = ward.ask("run", code=78)
    lines = said.splitlines()
    assert all(line.startswith("ward-gateway: ") for line in lines), said
    for problem in (
        "[nonsense]",
        "[gateway] wart: no such key; did you mean ward?",
        "[gateway] name: 7",
        "WARD_GATEWAY_COAP__LISTEN: 'nowhere'",
        "WARD_GATEWAY_LIMITS__ASSOCIATIONS: -1",
        "WARD_GATEWAY_LIMITS__COLOUR",
    ):
        assert len([line for line in lines if problem in line]) == 1, (problem, said)
    assert len(lines) == 6


def test_what_it_stands_on_is_missing(ward: Ward) -> None:
    """A key that is gone and a port that is taken are told in a line each, without a traceback."""
    key = ward.state / "local.key"
    key.rename(ward.state / "away")
    said = ward.ask("run", code=78)
    assert said.splitlines() == [line for line in said.splitlines() if str(key) in line]
    (ward.state / "away").rename(key)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", ward.port_base))
        said = ward.ask("run", code=78)
    assert f"127.0.0.1:{ward.port_base}" in said
    assert len(said.splitlines()) == 1


def test_a_second_cloud_store_on_the_same_database(ward: Ward) -> None:
    """It says why it does not start."""
    ward.start_cloud()
    said = run("cloud", "run", "--config", str(ward.folder / "cloud.toml"), code=1)
    assert "in use by a running cloud store" in said
    assert "Traceback" not in said
