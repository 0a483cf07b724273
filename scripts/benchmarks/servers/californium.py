"""Eclipse Californium (Java): CoAPs by Scandium, alone or with its cross-proxy to HTTP.

scripts/bench fetches the jars from Maven Central into ``.bench/californium``; the peer's program is
one Java file that the JDK runs from its source.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from servers import KEY, Missing, Running, free_ports
from servers.programs import PEERS, peers_store, program

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES = PEERS / "californium"
_JARS = Path(__file__).parents[3] / ".bench" / "californium"


@contextlib.contextmanager
def start(*, proxy: bool = False) -> Iterator[Running]:
    """A server that stores nothing, or with ``proxy`` one that answers when the peers' store has
    synced the record. Raises Missing."""
    jars = _jars()
    port = free_ports()
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
            warm_up_s=10.0,
            separate=True,
        )


def _jars() -> Path:
    """The folder of jars, as scripts/bench fetched them for this pom. Raises Missing."""
    if shutil.which("javac") is None:
        raise Missing("there is no JDK (Debian: openjdk-17-jdk-headless)")
    fetched = _JARS / "pom.xml"
    if not fetched.exists() or fetched.read_bytes() != (_SOURCES / "pom.xml").read_bytes():
        raise Missing("its jars are not here: scripts/bench fetches them by Maven (Debian: maven)")
    return _JARS
