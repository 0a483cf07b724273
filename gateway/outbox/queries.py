"""Every query of the outbox, by name. Lists of numbers or ids go in as one JSON array.

One statement does as much as it can: the sqlite3 module gives the interpreter away for each row
that it steps through, and with a busy event loop beside it each return costs more than the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.lane import Lane

if TYPE_CHECKING:
    from typing import LiteralString

TABLES: dict[Lane, LiteralString] = {Lane.EMERGENCY: "emergency", Lane.ROUTINE: "routine"}

CHUNKS = (500, 50, 5, 1)
"""Rows in one INSERT. A few sizes, so that each is prepared once."""

# A flipped bit can make a blob text or NULL, which would be an error where it is fetched.
_ROW: LiteralString = "CAST(coalesce(row, '') AS BLOB)"

INSERT: dict[Lane, dict[int, str]] = {
    lane: {
        rows: f"INSERT INTO {table} (number, row) VALUES " + ",".join(["(?, ?)"] * rows)
        for rows in CHUNKS
    }
    for lane, table in TABLES.items()
}

ADOPT = {  # a damaged tree can show the same row twice
    lane: f"INSERT OR IGNORE INTO {table} (number, row) VALUES (?, ?)"
    for lane, table in TABLES.items()
}

READ = {
    lane: f"SELECT number, {_ROW} FROM {table} "
    "WHERE number > ? AND number < ? ORDER BY number LIMIT ?"
    for lane, table in TABLES.items()
}

RANGE = {
    lane: f"SELECT number, {_ROW} FROM {table} "
    "WHERE number >= ? AND number <= ? ORDER BY number LIMIT ?"
    for lane, table in TABLES.items()
}

LAST = {
    lane: f"SELECT number FROM {table} WHERE number >= ? AND number <= ? "
    "ORDER BY number DESC LIMIT 1"
    for lane, table in TABLES.items()
}

FIRST = {
    lane: f"SELECT number, {_ROW} FROM {table} ORDER BY number LIMIT 1"
    for lane, table in TABLES.items()
}

NEWEST = {
    lane: f"SELECT number, {_ROW} FROM {table} ORDER BY number DESC LIMIT ?"
    for lane, table in TABLES.items()
}

TOTALS = {
    lane: f"SELECT count(*), coalesce(sum(length(row)), 0) FROM {table}"
    for lane, table in TABLES.items()
}

HIGHEST = {lane: f"SELECT coalesce(max(number), 0) FROM {table}" for lane, table in TABLES.items()}

DELETE = {
    lane: f"DELETE FROM {table} WHERE number BETWEEN ? AND ?" for lane, table in TABLES.items()
}

SIZE = {
    lane: f"SELECT coalesce(sum(length(row)), 0) FROM {table} "
    "WHERE number IN (SELECT value FROM json_each(?))"
    for lane, table in TABLES.items()
}

BURY = {
    lane: f"INSERT OR REPLACE INTO dead (number, lane, row, reason, at_ms) "
    f"SELECT number, '{lane}', row, ?, ? FROM {table} WHERE number = ?"
    for lane, table in TABLES.items()
}

UNBURY = {
    lane: f"INSERT INTO {table} (number, row) "
    "SELECT number, row FROM dead WHERE number IN (SELECT value FROM json_each(?))"
    for lane, table in TABLES.items()
}

DEAD = (
    f"SELECT number, lane, {_ROW}, reason, at_ms FROM dead WHERE number > ? ORDER BY number LIMIT ?"
)
DEAD_OF = (
    f"SELECT number, lane, {_ROW}, reason, at_ms FROM dead "
    "WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number"
)
DEAD_RANGE = (
    f"SELECT number, lane, {_ROW}, reason, at_ms FROM dead "
    "WHERE number >= ? AND number <= ? ORDER BY number LIMIT ?"
)
DEAD_LAST = "SELECT number FROM dead WHERE number >= ? AND number <= ? ORDER BY number DESC LIMIT 1"
DEAD_ADOPT = "INSERT OR IGNORE INTO dead (number, lane, row, reason, at_ms) VALUES (?, ?, ?, ?, ?)"
DEAD_TOTALS = "SELECT count(*), coalesce(sum(length(row)), 0) FROM dead"
DEAD_SIZE = (
    "SELECT coalesce(sum(length(row)), 0) FROM dead "
    "WHERE number IN (SELECT value FROM json_each(?))"
)
DEAD_DELETE = "DELETE FROM dead WHERE number IN (SELECT value FROM json_each(?))"

LEDGER = (
    "SELECT last_number, removed, delivered_emergency, delivered_routine, damaged, lost FROM ledger"
)
LEDGER_UPDATE = (
    "UPDATE ledger SET last_number = ?, removed = ?, delivered_emergency = ?, "
    "delivered_routine = ?, damaged = ?, lost = ?"
)

ENVELOPE_INSERT = (
    "INSERT INTO envelopes (epoch, created_ms, message) VALUES (?, ?, ?) "
    "ON CONFLICT (epoch) DO NOTHING"
)
ENVELOPE = (  # a flipped bit can make a blob text or NULL: it is gone then
    "SELECT epoch, created_ms, message, delivered FROM envelopes "
    "WHERE epoch = ? AND typeof(message) = 'blob'"
)
ENVELOPE_DELIVERED = "UPDATE envelopes SET delivered = 1 WHERE epoch = ?"
ENVELOPES_SIZE = "SELECT coalesce(sum(length(message)), 0) FROM envelopes"
ENVELOPES_CLOSE = (
    "UPDATE envelopes SET closed_number = ? WHERE closed_number IS NULL AND created_ms < ?"
)
ENVELOPES_PRUNE = (  # bytes 33 to 48 of a row are its epoch
    "DELETE FROM envelopes WHERE closed_number < ? "
    "AND epoch NOT IN (SELECT substr(row, 33, 16) FROM dead)"
)

ENVELOPE_ADOPT = "INSERT INTO envelopes (epoch, created_ms, message, delivered) VALUES (?, ?, ?, ?)"

SMALL_TABLES = {
    "envelopes": "epoch, created_ms, message, delivered",
    "alarms": "id, sealed, updated_ms",
}

KEYS_INSERT = "INSERT INTO delivered_keys (number, keys) VALUES (?, ?)"
_SOUND_KEYS = "WHERE typeof(number) = 'integer' AND typeof(keys) = 'blob'"
KEYS = f"SELECT number, keys FROM delivered_keys {_SOUND_KEYS} ORDER BY id"
KEYS_SIZES = f"SELECT id, length(keys) FROM delivered_keys {_SOUND_KEYS} ORDER BY id"
KEYS_DELETE = "DELETE FROM delivered_keys WHERE id <= ?"

ALARM_KEEP = "INSERT OR REPLACE INTO alarms (id, sealed, updated_ms) VALUES (?, ?, ?)"
ALARM_FORGET = "DELETE FROM alarms WHERE id = ?"
ALARMS = (
    "SELECT id, sealed FROM alarms WHERE typeof(id) = 'blob' AND typeof(sealed) = 'blob' "
    "ORDER BY updated_ms, id"
)
