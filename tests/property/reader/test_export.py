"""A file of `outbox export`: whatever is in it, it is read or refused in words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cose.record import Header
from gateway.errors import UsageError
from gateway.lane import Lane
from gateway.reader import export
from gateway.reader.export import ExportFile

_IDS = st.binary(min_size=16, max_size=16)
_HEADERS = st.builds(
    Header, _IDS, _IDS, st.sampled_from(list(Lane)), st.integers(0, 253_402_300_799_999), _IDS
)
_RECORDS = st.tuples(st.text(max_size=60), _HEADERS, st.binary(max_size=300), st.text())


def _file(content: bytes) -> ExportFile:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "export"
        path.write_bytes(content)
        return ExportFile(path)


@given(st.lists(_RECORDS, max_size=8), st.dictionaries(_IDS, st.binary(max_size=200), max_size=4))
def test_what_is_written_is_read(
    records: list[tuple[str, Header, bytes, str]], envelopes: dict[bytes, bytes]
) -> None:
    content = export.BEGINNING
    content += b"".join(export.envelope(*one) for one in envelopes.items())
    content += b"".join(export.record(*one) for one in records)
    file = _file(content)
    page = asyncio.run(file.page(after=0, lane=None))
    assert [(one.gateway, one.header, one.record) for one in page.items] == [
        one[:3] for one in records
    ]
    assert page.next is None
    for epoch, message in envelopes.items():
        assert asyncio.run(file.epoch(epoch)) == message
    routine = asyncio.run(file.page(after=0, lane=Lane.ROUTINE))
    assert all(one.header.lane is Lane.ROUTINE for one in routine.items)


def _refusal(content: bytes) -> str:
    """In words; empty when it was read."""
    try:
        _file(content)
    except UsageError as error:
        return str(error)
    return ""


@given(st.binary(min_size=1, max_size=300))
def test_anything_else_is_refused_in_words(content: bytes) -> None:
    assert "not an export" in _refusal(content)


@given(st.binary(max_size=300))
def test_rubbish_behind_the_beginning_does_not_raise(content: bytes) -> None:
    refusal = _refusal(export.BEGINNING + content)
    assert "not an export" in refusal or not refusal


@given(st.data())
def test_a_damaged_file_does_not_raise(data: st.DataObject) -> None:
    content = bytearray(export.BEGINNING + export.record(*data.draw(_RECORDS)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    refusal = _refusal(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert "not an export" in refusal or not refusal


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        ExportFile(tmp_path / "nowhere")
