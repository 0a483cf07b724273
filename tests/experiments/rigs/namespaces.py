"""Three network namespaces, joined by veth pairs: nodes, the relay, the gateway.

    node (10.99.1.2) - (10.99.1.1) relay (10.99.2.1) - (10.99.2.2) gateway

Real processes in real time: the gateway, the relay of rigs/radio.py, and nodes of others.
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


def missing() -> str | None:
    """What this machine lacks."""
    if shutil.which("ip") is None:
        return "ip is not installed (Debian: iproute2)"
    if shutil.which("coap-client-openssl") is None:
        return "coap-client-openssl is not installed (Debian: libcoap3-bin)"
    name = f"wg{os.getpid()}-"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        return "network namespaces may not be made here"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


@dataclass(frozen=True)
class Namespaces:
    """Names to begin a command line with."""

    node: tuple[str, ...]
    relay: tuple[str, ...]
    gateway: tuple[str, ...]


@contextmanager
def namespaces() -> Iterator[Namespaces]:
    """Gone with the block, and with them their links."""
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
        yield Namespaces(*(("ip", "netns", "exec", name) for name in (node, relay, gateway)))
    finally:
        for name in (node, relay, gateway):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def foreign_nodes(folder: Path, profile: radio.Profile, seed: int) -> list[str]:
    """Nodes by libcoap (OpenSSL) and, where it is installed, by aiocoap (tinydtls), each pack with
    a handshake of its own; what went wrong."""
    failures: list[str] = []
    place = folder / "foreign"
    place.mkdir()
    with namespaces() as where, a_ward(place) as ward:
        ward.make()
        devices = [ward.enter("libcoap"), ward.enter("tinydtls")]
        ward.environment["WARD_GATEWAY_COAP__LISTEN"] = f"{_GATEWAY}:{_PORT}"
        program = (*where.gateway, sys.executable, "-P", "-m", "gateway")
        gateway = ward.spawn("gateway", "run", "--config", str(ward.config), program=program)
        ward.ready(gateway, f"ward gateway listening on coaps {_GATEWAY}:{_PORT}")
        relay = subprocess.Popen(
            [
                *where.relay,
                *(sys.executable, "-m", "tests.experiments.rigs.radio"),
                *(f"{_RELAY}:{_PORT}", f"{_GATEWAY}:{_PORT}"),
                *(radio.arguments(profile), str(seed)),
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
            commands = [_libcoap(folder, devices[0])]
            if importlib.util.find_spec("DTLSSocket") is not None:
                commands.append(_tinydtls(folder, devices[1]))
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
    return failures


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


def _libcoap(folder: Path, device: Device) -> list[str]:
    pack = folder / "pack.json"
    pack.write_text('[{"n":"spo2","u":"/100","v":97}]')
    return [
        *("coap-client-openssl", "-B", str(_PATIENCE_S - 5), "-m", "post", "-t", "110"),
        *("-u", device.id, "-k", device.key, "-f", str(pack), f"coaps://{_RELAY}:{_PORT}/v"),
    ]


def _tinydtls(folder: Path, device: Device) -> list[str]:
    credentials = folder / "credentials.json"
    identity = {"psk": {"ascii": device.key}, "client-identity": {"ascii": device.id}}
    uri = f"coaps://{_RELAY}:{_PORT}"
    credentials.write_text(json.dumps({f"{uri}/*": {"dtls": identity}}))
    return [
        *(sys.executable, "-W", "ignore", "-m", "aiocoap.cli.client", "-q"),
        *("--credentials", str(credentials), "-m", "POST", "--content-format", "110"),
        *("--payload", '[{"n":"spo2","u":"/100","v":96}]', f"{uri}/v"),
    ]
