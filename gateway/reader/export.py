"""A file of sealed records with the envelopes that they need, for readers whom no store serves.

A CBOR sequence (RFC 8742) of arrays::

    "ward-gateway export 1"
    ["envelope", epoch, COSE_Sign1 around a COSE_Encrypt]
    ["record", gateway, id, patient, lane, received ms, epoch, COSE_Encrypt0, reason]

Ids, the patient's pseudonym and epochs are 16 bytes. An envelope stands before its first record.
The reason is why the record is here, for people. Nothing of it is secret, and nothing is believed
that the signed envelopes do not say: see :mod:`gateway.reader.opening`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.cose import cbor
from gateway.cose.record import (
    ID_BYTES,
    MAX_NAME_BYTES,
    MAX_RECEIVED_MS,
    MAX_RECORD_BYTES,
    Header,
    lane_untrusted,
)
from gateway.errors import BadRequestError, PeerError, UsageError
from gateway.reader.fetch import MAX_ENVELOPE_BYTES
from gateway.reader.pages import Item, Page

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.lane import Lane

BEGINNING: Final = cbor.text_string("ward-gateway export 1")
_LONGEST_REASON: Final = 2000
_ENVELOPE_ITEMS: Final = 3
_RECORD_ITEMS: Final = 9


def envelope(epoch: bytes, message: bytes) -> bytes:
    """One item of the file."""
    return cbor.encode(["envelope", epoch, message])


def record(gateway: str, header: Header, sealed: bytes, reason: str) -> bytes:
    """One item of the file."""
    name, patient, lane, received_ms, epoch = header
    short = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
    return cbor.encode(
        ["record", gateway, name, patient, lane.value, received_ms, epoch, sealed, short]
    )


class ExportFile:
    """A source to :func:`gateway.reader.reading.read`. Raises UsageError for another file."""

    def __init__(self, path: Path) -> None:
        self._envelopes: dict[bytes, bytes] = {}
        self._items: list[Item] = []
        try:
            self._read_untrusted(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
        except PeerError as error:
            raise UsageError(f"{path}: not an export of `outbox export`: {error}") from None

    async def page(self, *, after: int, lane: Lane | None) -> Page:
        """Everything at once."""
        found = (one for one in self._items if one.cursor > after)
        return Page(tuple(one for one in found if lane in (None, one.header.lane)), None)

    async def epoch(self, epoch: bytes) -> bytes | None:
        return self._envelopes.get(epoch)

    def _read_untrusted(self, content: bytes) -> None:
        if not content.startswith(BEGINNING):
            raise BadRequestError("it does not begin as one")
        reader = cbor.Reader(content[len(BEGINNING) :])
        while not reader.at_end():
            self._item_untrusted(reader)

    def _item_untrusted(self, reader: cbor.Reader) -> None:
        count = reader.head(cbor.ARRAY)
        kind = reader.text(16)
        if (kind, count) == ("envelope", _ENVELOPE_ITEMS):
            epoch = reader.exactly(ID_BYTES)
            self._envelopes[epoch] = reader.byte_string(MAX_ENVELOPE_BYTES)
        elif (kind, count) == ("record", _RECORD_ITEMS):
            gateway = reader.text(MAX_NAME_BYTES)
            name, patient = reader.exactly(ID_BYTES), reader.exactly(ID_BYTES)
            lane, received_ms = lane_untrusted(reader.text(32)), reader.head(cbor.UINT)
            if received_ms > MAX_RECEIVED_MS:
                raise BadRequestError("received ms must be a time")
            header = Header(name, patient, lane, received_ms, reader.exactly(ID_BYTES))
            sealed = reader.byte_string(MAX_RECORD_BYTES)
            reader.text(_LONGEST_REASON)
            self._items.append(Item(len(self._items) + 1, gateway, header, sealed))
        else:
            raise BadRequestError(f"{kind} of {count}: no such item")
