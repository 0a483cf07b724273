"""Eclipse Californium (Java): CoAPs by Scandium, alone or with its cross-proxy to HTTP.

The jars come from Maven Central into ``.bench/californium`` the first time; the peer's program is
one Java file that the JDK runs from its source.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import demonstration
from servers import KEY, Missing, Running
from servers.programs import PEERS, peers_store, program

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES = PEERS / "californium"
_JARS = Path(__file__).parents[3] / ".bench" / "californium"
_FETCH_WITHIN_S = 300.0


@contextlib.contextmanager
def start(*, proxy: bool = False) -> Iterator[Running]:
    """A server that stores nothing, or with ``proxy`` one that answers when the peers' store has
    synced the record. Raises Missing."""
    jars = _jars()
    port = demonstration.free_port_base()
    with contextlib.ExitStack() as stack:
        store = [stack.enter_context(peers_store())] if proxy else []
        process, _ = stack.enter_context(
            program(
                ["java", "-cp", f"{jars}/*", str(_SOURCES / "Peer.java"), str(port), KEY, *store],
                folder=jars,  # it writes its settings there
            )
        )
        yield Running(
            "Californium proxy" if proxy else "Californium",
            port,
            "POST",
            ("v",),
            process,
            acknowledges="cloud synced" if proxy else "nothing stored",
            separate=True,
        )


def _jars() -> Path:
    """The folder of jars, fetched again when the pom has changed. Raises Missing."""
    if shutil.which("javac") is None:
        raise Missing("there is no JDK (Debian: openjdk-17-jdk-headless)")
    pom = _SOURCES / "pom.xml"
    fetched = _JARS / "pom.xml"
    if fetched.exists() and fetched.read_bytes() == pom.read_bytes():
        return _JARS
    if shutil.which("mvn") is None:
        raise Missing("its jars are not here, and Maven is not installed (Debian: maven)")
    shutil.rmtree(_JARS, ignore_errors=True)
    try:
        done = subprocess.run(
            [
                *("mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies"),
                f"-DoutputDirectory={_JARS}",
            ],
            capture_output=True,
            text=True,
            timeout=_FETCH_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing("its jars could not be fetched in time") from None
    if done.returncode:
        raise Missing(f"its jars could not be fetched: {done.stdout.strip().splitlines()[:1]}")
    shutil.copy(pom, fetched)
    return _JARS
