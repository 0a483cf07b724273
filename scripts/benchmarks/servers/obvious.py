"""The obvious gateway (peers/obvious.py): answers when the peers' store has synced the record."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING

from servers import KEY, Missing, Running, free_ports
from servers.aiocoap_dtls import TINYDTLS
from servers.programs import peers_store, python_peer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def start() -> Iterator[Running]:
    """With its store, whose CPU time does not count as the gateway's."""
    if importlib.util.find_spec("DTLSSocket") is None:
        raise Missing(TINYDTLS)
    port = free_ports()
    with (
        peers_store() as store,
        python_peer("obvious.py", str(port), KEY, store) as (process, _),
    ):
        yield Running(
            "obvious gateway",
            port,
            "POST",
            ("v",),
            process,
            acknowledges="cloud synced",
            in_flight=50,
            separate=True,
        )
