"""aiocoap's own server over plain UDP: what its CoAP costs without DTLS. Stores nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from servers import Running, free_ports
from servers.programs import python_peer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def start() -> Iterator[Running]:
    """No encryption, no authentication."""
    port = free_ports()
    with python_peer("aiocoap_server.py", str(port)) as (process, _):
        yield Running(
            "aiocoap UDP",
            port,
            "POST",
            ("v",),
            process,
            acknowledges="nothing stored",
            dtls=False,
            in_flight=50,
        )
