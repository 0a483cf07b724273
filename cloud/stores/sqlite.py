"""The embedded default: one SQLite file, ``database = "cloud.db"``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from cloud.group_commit import GroupCommit
from cloud.store import (
    PAGE_BYTES,
    Acknowledgement,
    Page,
    Put,
    Receipt,
    Sight,
    StoredRecord,
    stores,
)
from gateway.cose.record import Header
from gateway.lane import Lane

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from gateway.cose.envelope import Envelope

SCAN = 10_000
"""Most records that one page looks at. A reader who may see few of a million records then gets
short pages instead of holding up every writer for a second."""

_COLUMNS = "cursor, gateway, id, patient, lane, received_ms, epoch, record"

# Where a page ends if nothing else ends it, by what it is narrowed to. Index only.
_BOUND: dict[str, LiteralString] = {
    "all": "SELECT cursor FROM records WHERE cursor > :after ORDER BY cursor LIMIT 1 OFFSET :scan",
    "lane": "SELECT cursor FROM records WHERE lane = :lane AND cursor > :after"
    " ORDER BY cursor LIMIT 1 OFFSET :scan",
    "patient": "SELECT cursor FROM records WHERE patient = :patient AND cursor > :after"
    " ORDER BY cursor LIMIT 1 OFFSET :scan",
}

_VISIBLE = (
    " AND EXISTS (SELECT 1 FROM epoch_readers r WHERE r.kid = :kid AND r.epoch = records.epoch)"
)

_PAGE: dict[str, LiteralString] = {
    "all": f"SELECT {_COLUMNS} FROM records WHERE cursor > :after AND cursor < :bound"
    f"{_VISIBLE} ORDER BY cursor",
    "lane": f"SELECT {_COLUMNS} FROM records WHERE lane = :lane AND cursor > :after"
    f" AND cursor < :bound{_VISIBLE} ORDER BY cursor",
    "patient": f"SELECT {_COLUMNS} FROM records WHERE patient = :patient AND cursor > :after"
    f" AND cursor < :bound{_VISIBLE} ORDER BY cursor",
}

_NO_BOUND = (1 << 63) - 1


class SqliteStore:
    """A :class:`cloud.store.Store`. Each method is one call into the connection's thread."""

    def __init__(self, database: GroupCommit) -> None:
        self._database = database

    async def put_epoch(self, envelope: Envelope) -> Put:
        return await self._database.write(
            lambda connection: _put_epoch(connection, envelope),
            urgent=envelope.lane is Lane.EMERGENCY,
        )

    async def epoch(self, epoch: bytes, sight: Sight) -> bytes | None:
        return await self._database.read(lambda connection: _epoch(connection, epoch, sight))

    async def add_records(self, gateway: str, items: Sequence[tuple[Header, bytes]]) -> Receipt:
        return await self._database.write(
            lambda connection: _add(connection, gateway, items),
            urgent=any(header.lane is Lane.EMERGENCY for header, _ in items),
        )

    async def page(
        self, sight: Sight, *, after: int, limit: int, patient: bytes | None = None
    ) -> Page:
        return await self._database.read(
            lambda connection: _page(connection, sight, after, limit, patient)
        )

    async def last_cursor(self) -> int:
        return await self._database.read(_last_cursor)

    async def acknowledge(
        self, alarm: bytes, sight: Sight, *, name: str, role: str, at_ms: int
    ) -> Acknowledgement | None:
        return await self._database.write(
            lambda connection: _acknowledge(connection, alarm, sight, name, role, at_ms),
            urgent=True,
        )

    async def acknowledgements(
        self, gateway: str, *, after: int, limit: int
    ) -> tuple[Acknowledgement, ...]:
        return await self._database.read(
            lambda connection: _acknowledgements(connection, gateway, after, limit)
        )

    async def close(self) -> None:
        await self._database.close()


@stores.register("sqlite")
async def open_sqlite(
    location: str, *, folder: Path, on_failure: Callable[[Exception], None]
) -> SqliteStore:
    """``location`` is a path, ``"cloud.db"`` or ``"/var/lib/cloud.db"``."""
    schema = resources.files("cloud.stores").joinpath("schema.sql").read_text()
    database = GroupCommit(folder / Path(location), schema, on_failure)
    await database.open()
    return SqliteStore(database)


def _put_epoch(connection: sqlite3.Connection, envelope: Envelope) -> Put:
    there = connection.execute(
        "SELECT message FROM epochs WHERE id = ?", (envelope.epoch,)
    ).fetchone()
    if there is not None:
        return Put.KNOWN if there[0] == envelope.message else Put.CONFLICT
    connection.execute(
        "INSERT INTO epochs (id, gateway, patient, lane, created_ms, message)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            envelope.epoch,
            envelope.gateway,
            envelope.patient,
            envelope.lane.value,
            envelope.created_ms,
            envelope.message,
        ),
    )
    connection.executemany(
        "INSERT INTO epoch_readers (kid, epoch) VALUES (?, ?)",
        [(kid, envelope.epoch) for kid in set(envelope.readers)],
    )
    return Put.NEW


def _epoch(connection: sqlite3.Connection, epoch: bytes, sight: Sight) -> bytes | None:
    row = connection.execute(
        "SELECT lane, message FROM epochs JOIN epoch_readers ON epoch = id"
        " WHERE id = ? AND kid = ?",
        (epoch, sight.kid),
    ).fetchone()
    if row is None or Lane(row[0]) not in sight.lanes:
        return None
    message: bytes = row[1]
    return message


def _add(
    connection: sqlite3.Connection, gateway: str, items: Sequence[tuple[Header, bytes]]
) -> Receipt:
    epochs = {
        epoch: connection.execute(
            "SELECT gateway, patient, lane FROM epochs WHERE id = ?", (epoch,)
        ).fetchone()
        for epoch in {header.epoch for header, _ in items}
    }
    missing = tuple(sorted(epoch for epoch, row in epochs.items() if row is None))
    if missing:
        return Receipt(missing_epochs=missing)
    stored: list[bytes] = []
    known: list[bytes] = []
    refused: list[tuple[bytes, str]] = []
    for header, record in items:
        row = (gateway, header.patient, header.lane.value, header.received_ms, header.epoch, record)
        there = connection.execute(
            "SELECT gateway, patient, lane, received_ms, epoch, record FROM records WHERE id = ?",
            (header.id,),
        ).fetchone()
        if there == row:
            known.append(header.id)
        elif there is not None:
            refused.append((header.id, "another record has this id"))
        elif epochs[header.epoch] != row[:3]:
            refused.append((header.id, "its epoch is of another gateway, patient or lane"))
        else:
            connection.execute(
                "INSERT INTO records (gateway, patient, lane, received_ms, epoch, record, id)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, header.id),
            )
            stored.append(header.id)
    return Receipt(tuple(stored), tuple(known), tuple(refused))


def _page(
    connection: sqlite3.Connection,
    sight: Sight,
    after: int,
    limit: int,
    patient: bytes | None,
) -> Page:
    if not sight.lanes:
        return Page((), None)
    lane = next(iter(sight.lanes)) if len(sight.lanes) == 1 else None
    narrowed = "patient" if patient is not None else "lane" if lane is not None else "all"
    values: dict[str, Any] = {
        "after": after,
        "scan": SCAN,
        "lane": lane,
        "patient": patient,
        "kid": sight.kid,
    }
    bound = connection.execute(_BOUND[narrowed], values).fetchone()
    values["bound"] = _NO_BOUND if bound is None else bound[0]
    records: list[StoredRecord] = []
    size = 0
    for row in connection.execute(_PAGE[narrowed], values):
        record = _record(row)
        if record.header.lane not in sight.lanes:
            continue
        size += len(record.record)
        if records and (len(records) == limit or size > PAGE_BYTES):
            return Page(tuple(records), records[-1].cursor)
        records.append(record)
    return Page(tuple(records), None if bound is None else bound[0] - 1)


def _record(row: tuple[Any, ...]) -> StoredRecord:
    cursor, gateway, record_id, patient, lane, received_ms, epoch, record = row
    header = Header(
        id=record_id, patient=patient, lane=Lane(lane), received_ms=received_ms, epoch=epoch
    )
    return StoredRecord(cursor, gateway, header, record)


def _last_cursor(connection: sqlite3.Connection) -> int:
    (cursor,) = connection.execute("SELECT coalesce(max(cursor), 0) FROM records").fetchone()
    return int(cursor)


def _acknowledge(
    connection: sqlite3.Connection, alarm: bytes, sight: Sight, name: str, role: str, at_ms: int
) -> Acknowledgement | None:
    row = connection.execute(
        f"SELECT gateway, lane FROM records WHERE id = :alarm{_VISIBLE}",
        {"alarm": alarm, "kid": sight.kid},
    ).fetchone()
    if row is None or row[1] != Lane.EMERGENCY or Lane.EMERGENCY not in sight.lanes:
        return None
    connection.execute(
        "INSERT INTO acknowledgements (alarm, gateway, name, role, at_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (alarm) DO NOTHING",
        (alarm, row[0], name, role, at_ms),
    )
    return Acknowledgement(
        *connection.execute(
            "SELECT cursor, alarm, name, role, at_ms FROM acknowledgements WHERE alarm = ?",
            (alarm,),
        ).fetchone()
    )


def _acknowledgements(
    connection: sqlite3.Connection, gateway: str, after: int, limit: int
) -> tuple[Acknowledgement, ...]:
    rows = connection.execute(
        "SELECT cursor, alarm, name, role, at_ms FROM acknowledgements"
        " WHERE gateway = ? AND cursor > ? ORDER BY cursor LIMIT ?",
        (gateway, after, limit),
    )
    return tuple(Acknowledgement(*row) for row in rows)
