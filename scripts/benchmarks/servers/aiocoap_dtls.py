"""aiocoap's own server over its tinydtls_server: acknowledges, stores nothing."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING

from servers import KEY, Missing, Running, free_ports
from servers.programs import python_peer

if TYPE_CHECKING:
    from collections.abc import Iterator

TINYDTLS = "DTLSSocket is not installed (pip install -e .[tinydtls]; needs autoconf and libtool)"


@contextlib.contextmanager
def start() -> Iterator[Running]:
    """One DTLS stack for each client, in one event loop."""
    if importlib.util.find_spec("DTLSSocket") is None:
        raise Missing(TINYDTLS)
    port = free_ports()
    with python_peer("aiocoap_server.py", str(port), KEY) as (process, _):
        yield Running(
            "aiocoap DTLS",
            port,
            "POST",
            ("v",),
            process,
            acknowledges="nothing stored",
            in_flight=50,
        )
