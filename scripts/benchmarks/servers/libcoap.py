"""libcoap's server: PUT to a resource that is there; acknowledges, stores nothing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from servers import KEY, Missing, Running, ending, free_ports, wait_for_udp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IN_FLIGHT = 150
"""It leaves the socket at the system's default buffer, which on Linux (208 KiB) holds about 180
small datagrams; with more in flight it loses some of them and is no faster.
"""


@contextlib.contextmanager
def start(*, certificates: Path | None = None) -> Iterator[Running]:
    """Listens on the port above the one that it is given.

    certificates: of this ward, instead of the pre-shared key; it then asks for the node's too.
    """
    program = shutil.which("coap-server-openssl")
    if program is None:
        raise Missing("coap-server-openssl is not installed (Debian: libcoap3-bin)")
    port = free_ports()
    proof = ["-k", KEY, "-h", "bench"]
    if certificates is not None:
        keys, authority = certificates / "keys", certificates / "ca" / "ca.pem"
        proof = ["-c", f"{keys}/gateway.pem", "-j", f"{keys}/gateway.key", "-C", str(authority)]
    process = subprocess.Popen(
        [program, "-A", "127.0.0.1", "-p", str(port), "-v", "3", *proof],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ending(process):
        one = wait_for_udp(process, port + 1)
        yield Running(
            "libcoap",
            port + 1,
            "PUT",
            ("example_data",),
            one,
            acknowledges="nothing stored",
            in_flight=_IN_FLIGHT,
        )
