"""Flights: what a handshake engine writes at once, cut into datagrams (RFC 6347 section 4.2.3).

OpenSSL writes through a memory BIO, which is a byte stream: a whole flight comes out in one
piece. Here it is cut at the record headers, the epoch-0 records get numbers of ours, and records
are packed into datagrams up to the MTU.
"""

from __future__ import annotations

from typing import Final

from gateway.dtls.records import HEADER_LENGTH, split_untrusted

_EPOCH: Final = slice(3, 5)
_NUMBER: Final = slice(5, 11)


class Stamper:
    """Numbers the epoch-0 records of one handshake, over all flights and repetitions.

    A server must start with the number of the ClientHello that it accepted (RFC 6347 section
    4.2.1), because it kept no count before; OpenSSL has no way to be told. Epoch-1 records are
    authenticated together with their number and pass unchanged.
    """

    def __init__(self, number: int) -> None:
        self._next = number

    def stamp(self, flight: list[bytes]) -> list[bytes]:
        """The same records, those of epoch 0 with the next numbers."""
        stamped = []
        for record in flight:
            if record[_EPOCH] == b"\0\0":
                number, self._next = self._next, self._next + 1
                stamped.append(record[:5] + number.to_bytes(6, "big") + record[11:])
            else:
                stamped.append(record)
        return stamped


def records(flight: bytes) -> list[bytes]:
    """Cut what an engine wrote into its records."""
    return list(split_untrusted(flight))


def pack(flight: list[bytes], mtu: int) -> list[bytes]:
    """Join records into as few datagrams of at most ``mtu`` bytes as their order allows.

    A single record that is larger goes out alone: the engine was told the MTU and knows better.
    """
    datagrams: list[bytes] = []
    for record in flight:
        if datagrams and len(datagrams[-1]) + len(record) <= mtu:
            datagrams[-1] += record
        else:
            datagrams.append(record)
    return datagrams


def highest_protected_number(flight: list[bytes]) -> int:
    """The largest epoch-1 record number in a flight, -1 if it has none."""
    return max(
        (
            int.from_bytes(record[_NUMBER], "big")
            for record in flight
            if len(record) >= HEADER_LENGTH and record[_EPOCH] == b"\0\1"
        ),
        default=-1,
    )
