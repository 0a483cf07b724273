"""Flights: what a handshake engine writes at once, cut into datagrams (RFC 6347 section 4.2.3).

OpenSSL writes through a memory BIO, which is a byte stream: a whole flight comes out in one
piece. Here it is cut at the record headers, the epoch-0 records get numbers of ours, and records
are packed into datagrams up to the MTU.
"""

from __future__ import annotations

from typing import Final

from gateway.dtls.records import EPOCH_1, HANDSHAKE, HEADER_LENGTH, SUITES, split_untrusted

_SUITE_NAMES: Final = {suite.number: name for name, suite in SUITES.items()}
_SERVER_HELLO: Final = 2


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
            if record[3] == 0 == record[4]:
                number = self._next
                self._next = number + 1
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
    highest = -1
    for record in flight:
        if record[3] == 0 and record[4] == EPOCH_1:
            highest = max(highest, int.from_bytes(record[5:11], "big"))
    return highest


def chosen_suite(flight: bytes) -> str | None:
    """The suite named by a ServerHello at the head of our own flight (RFC 5246 section 7.4.1.3)."""
    body = HEADER_LENGTH + 12
    if len(flight) <= body + 34 or flight[0] != HANDSHAKE:
        return None
    if flight[HEADER_LENGTH] != _SERVER_HELLO:
        return None
    at = body + 35 + flight[body + 34]
    return _SUITE_NAMES.get(int.from_bytes(flight[at : at + 2], "big"))
