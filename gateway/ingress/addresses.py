"""Addresses as the kernel writes them, `struct sockaddr`, and as paths of the gateway.

Kept ready for peers that have an association, and looked up for each of their datagrams. Others'
are made each time: addresses can be forged, and a flood of such must not take memory.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Final

from gateway.dtls.association import Path

_IN: Final = Struct("=H2s4s8x")
_IN6: Final = Struct("=H2s4s16sI")
"""struct sockaddr_in and sockaddr_in6: family, port, (flow,) address (, scope)."""

LENGTH: Final = {socket.AF_INET: _IN.size, socket.AF_INET6: _IN6.size}
"""Bytes of an address of a family."""


class Paths(dict[bytes, Path]):
    """The path for an address as the kernel gives it."""

    def __init__(self, listener: int) -> None:
        self._listener = listener

    def __missing__(self, name: bytes) -> Path:
        if len(name) == _IN.size:
            _, port, host = _IN.unpack(name)
            address = (socket.inet_ntop(socket.AF_INET, host), int.from_bytes(port, "big"))
            return Path(self._listener, address)
        _, port, flow, host, scope = _IN6.unpack(name)
        printed = socket.inet_ntop(socket.AF_INET6, host)
        numbers = (int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope)
        return Path(self._listener, (printed, *numbers))


class Names(dict[Path, bytes]):
    """The address for a path, for the kernel."""

    def __missing__(self, path: Path) -> bytes:
        host, port, *more = path.address
        if more:
            flow, scope = more
            packed = socket.inet_pton(socket.AF_INET6, host)
            return _IN6.pack(
                socket.AF_INET6, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), packed, scope
            )
        packed = socket.inet_pton(socket.AF_INET, host)
        return _IN.pack(socket.AF_INET, port.to_bytes(2, "big"), packed)


class Peers:
    """The addresses of one socket's peers, both ways."""

    def __init__(self, listener: int) -> None:
        self.paths = Paths(listener)
        self.names = Names()

    def keep(self, path: Path) -> None:
        """It has an association now. Half a kilobyte."""
        name = self.names[path]
        self.names[path] = name
        self.paths[name] = path

    def forget(self, path: Path) -> None:
        """It has none any more."""
        name = self.names.pop(path, None)
        if name is not None:
            self.paths.pop(name, None)
