"""What constrained nodes run: tinydtls, by aiocoap's client."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.ward import Ward


@pytest.mark.skipif(
    importlib.util.find_spec("DTLSSocket") is None,
    reason="DTLSSocket (tinydtls) is not installed: pip install -e .[tinydtls]",
)
def test_a_tinydtls_node_posts_and_reads(ward: Ward, tmp_path: Path) -> None:
    node = ward.add_device("tiny-1")
    ward.start()
    credentials = tmp_path / "credentials.json"
    identity = {"psk": {"ascii": node.key}, "client-identity": {"ascii": node.id}}
    credentials.write_text(json.dumps({f"{ward.uri}/*": {"dtls": identity}}))

    def ask(path: str, *words: str) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "aiocoap.cli.client"),
                *("--credentials", str(credentials), *words, f"{ward.uri}/{path}"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    pack = '[{"n":"hr","u":"1/min","v":71}]'
    ask("v", "-m", "POST", "--content-format", "110", "--payload", pack)
    assert "</vitals>" in ask(".well-known/core")
    assert "suite PSK-AES128-CCM" in ward.log("gateway")
    ward.delivered()
    (record,) = ward.read("doctor")
    assert record["senml"][0]["v"] == 71
