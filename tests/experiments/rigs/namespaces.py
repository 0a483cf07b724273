"""Three network namespaces, joined by veth pairs: nodes, the relay, the gateway.

    node (10.99.1.2) - (10.99.1.1) relay (10.99.2.1) - (10.99.2.2) gateway

Real processes in real time: the gateway, the relay of rigs/radio.py, and nodes of others. Where
namespaces may not be made, the relay and the gateway have addresses of 127/8 instead.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.acceptance.ward import WITHIN_S, Device, a_ward
from tests.experiments.rigs import radio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.ward import Ward

_NODE, _RELAY, _GATEWAY = "10.99.1.2", "10.99.1.1", "10.99.2.2"
_OUTER = "10.99.2.1"
_PORT: Final = 5684
_PACKS: Final = 3
_PATIENCE_S: Final = 40
_TOP = Path(__file__).parents[3]


@dataclass(frozen=True)
class Places:
    """Where the processes run: how their command lines begin, and addresses."""

    node: tuple[str, ...] = ()
    relay: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    relay_address: str = f"127.99.{os.getpid() % 250}.1"
    gateway_address: str = f"127.99.{os.getpid() % 250}.2"


@contextmanager
def places() -> Iterator[Places]:
    """Namespaces are gone with the block, and with them their links."""
    if not _may_make_namespaces():
        yield Places()
        return
    node, relay, gateway = (f"wg{os.getpid()}{letter}" for letter in "nrg")
    try:
        for name in (node, relay, gateway):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for far, address, near, here in (
            (node, _NODE, "nodes", _RELAY),
            (gateway, _GATEWAY, "gateway", _OUTER),
        ):
            _ip("-n", relay, "link", "add", near, "type", "veth", "peer", "radio", "netns", far)
            for name, link, own in ((relay, near, here), (far, "radio", address)):
                _ip("-n", name, "address", "add", f"{own}/24", "dev", link)
                _ip("-n", name, "link", "set", link, "up")
        inside = [("ip", "netns", "exec", name) for name in (node, relay, gateway)]
        yield Places(*inside, relay_address=_RELAY, gateway_address=_GATEWAY)
    finally:
        for name in (node, relay, gateway):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _may_make_namespaces() -> bool:
    if shutil.which("ip") is None:
        return False
    name = f"wg{os.getpid()}t"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    return (
        made.returncode == 0
        and not subprocess.run(
            ["ip", "netns", "del", name], capture_output=True, check=False
        ).returncode
    )


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def foreign_nodes(folder: Path, profile: radio.Profile, seed: int) -> tuple[list[str], list[str]]:
    """Nodes by libcoap (OpenSSL) and by aiocoap (tinydtls), those that are installed, each pack
    with a handshake of its own. Which there were, and what went wrong."""
    failures: list[str] = []
    installed = []
    if shutil.which("coap-client-openssl"):
        installed.append("libcoap")
    if importlib.util.find_spec("DTLSSocket"):
        installed.append("tinydtls")
    if not installed:
        return [], []
    place = folder / "foreign"
    place.mkdir()
    with places() as where, a_ward(place) as ward:
        ward.make()
        here, there = f"{where.relay_address}:{_PORT}", f"{where.gateway_address}:{_PORT}"
        uri = f"coaps://{here}"
        clients = {"libcoap": _libcoap, "tinydtls": _tinydtls}
        commands = [clients[name](folder, ward.enter(name), uri) for name in installed]
        ward.environment["WARD_GATEWAY_COAP__LISTEN"] = there
        program = (*where.gateway, sys.executable, "-P", "-m", "gateway")
        gateway = ward.spawn("gateway", "run", "--config", str(ward.config), program=program)
        ward.ready(gateway, f"ward gateway listening on coaps {there}")
        relay = subprocess.Popen(
            [
                *where.relay,
                *(sys.executable, "-m", "tests.experiments.rigs.radio"),
                *(here, there, radio.arguments(profile), str(seed)),
            ],
            cwd=_TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert relay.stdin is not None
        assert relay.stdout is not None
        try:
            assert relay.stdout.readline() == "ready\n"
            # Both kinds at once, each of them pack by pack.
            for pack in range(_PACKS):
                running = [
                    subprocess.Popen(
                        [*where.node, *words],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                    for words in commands
                ]
                for words, process in zip(commands, running, strict=True):
                    said, _ = process.communicate(timeout=_PATIENCE_S)
                    if process.returncode or "4.0" in said or "5.0" in said:
                        failures.append(f"{words[0]}, pack {pack}: {said[-300:]}")
            counts: dict[str, Any] = json.loads(relay.communicate("", WITHIN_S)[0])
        finally:
            relay.kill()
            relay.communicate()
        failures += _judged(ward, counts, _PACKS * len(commands))
    return installed, failures


def _judged(ward: Ward, counts: dict[str, Any], packs: int) -> list[str]:
    status = ward.status()
    failures = []
    if not packs <= status["messages"].get("admitted", 0) <= packs + counts["up"].get("lost", 0):
        failures.append(f"{status['messages']} of {packs} packs of others' nodes; {counts}")
    if counts["up"]["received"] < 5 * packs:
        failures.append(f"the nodes did not come through the relay: {counts}")
    if status["messages"].get("bug", 0):
        failures.append(ward.log("gateway")[-2000:])
    return failures


def _libcoap(folder: Path, device: Device, uri: str) -> list[str]:
    pack = folder / "pack.json"
    pack.write_text('[{"n":"spo2","u":"/100","v":97}]')
    return [
        *("coap-client-openssl", "-B", str(_PATIENCE_S - 5), "-m", "post", "-t", "110"),
        *("-u", device.id, "-k", device.key, "-f", str(pack), f"{uri}/v"),
    ]


def _tinydtls(folder: Path, device: Device, uri: str) -> list[str]:
    credentials = folder / "credentials.json"
    identity = {"psk": {"ascii": device.key}, "client-identity": {"ascii": device.id}}
    credentials.write_text(json.dumps({f"{uri}/*": {"dtls": identity}}))
    return [
        *(sys.executable, "-W", "ignore", "-m", "aiocoap.cli.client", "-q"),
        *("--credentials", str(credentials), "-m", "POST", "--content-format", "110"),
        *("--payload", '[{"n":"spo2","u":"/100","v":96}]', f"{uri}/v"),
    ]
