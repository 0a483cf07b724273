"""Addresses as the kernel writes them, `struct sockaddr`, and as paths of the gateway.

Made once for a peer and looked up for each of its datagrams: kept from the second time on. An
address that is forged comes once, and a flood of such would fill both tables to their limit.
"""

from __future__ import annotations

import socket
from array import array
from struct import Struct
from typing import Final

from gateway.dtls.association import Path

PEERS: Final = 8192
"""Addresses whose paths are kept ready for the next datagram, of each socket: twice the usual
associations. Half a kilobyte each."""

_SEEN: Final = 4096
"""Places for the hashes of what came once; 32 KiB."""

_IN: Final = Struct("=H2s4s8x")
_IN6: Final = Struct("=H2s4s16sI")
"""struct sockaddr_in and sockaddr_in6: family, port, (flow,) address (, scope)."""

LENGTH: Final = {socket.AF_INET: _IN.size, socket.AF_INET6: _IN6.size}
"""Bytes of an address of a family."""


class _Seen:
    """What has come lately, by its hash: a newer one may take its place."""

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * _SEEN))

    def again(self, value: object) -> bool:
        """Whether this has come before."""
        number = hash(value)
        place = number % _SEEN
        before: int = self._hashes[place]
        self._hashes[place] = number
        return before == number


class Paths(dict[bytes, Path]):
    """The path for an address as the kernel gives it. Made once, not once a datagram."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._seen = _Seen()

    def __missing__(self, name: bytes) -> Path:
        if len(self) >= PEERS:
            # Addresses can be forged: whoever fills this costs the others a lookup, not memory.
            self.clear()
        if len(name) == _IN.size:
            _, port, host = _IN.unpack(name)
            address = (socket.inet_ntop(socket.AF_INET, host), int.from_bytes(port, "big"))
            path = Path(self._listener, address)
        else:
            _, port, flow, host, scope = _IN6.unpack(name)
            printed = socket.inet_ntop(socket.AF_INET6, host)
            numbers = (int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope)
            path = Path(self._listener, (printed, *numbers))
        if self._seen.again(name):
            self[name] = path
        return path


class Names(dict[Path, bytes]):
    """The address for a path, for the kernel."""

    def __init__(self) -> None:
        self._seen = _Seen()

    def __missing__(self, path: Path) -> bytes:
        if len(self) >= PEERS:
            self.clear()
        host, port, *more = path.address
        if more:
            flow, scope = more
            packed = socket.inet_pton(socket.AF_INET6, host)
            name = _IN6.pack(
                socket.AF_INET6, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), packed, scope
            )
        else:
            packed = socket.inet_pton(socket.AF_INET, host)
            name = _IN.pack(socket.AF_INET, port.to_bytes(2, "big"), packed)
        if self._seen.again(path):
            self[path] = name
        return name
