"""The small tables beside the entries: key envelopes, and alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outbox import queries
from gateway.outbox.entry import StoredEnvelope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.cose.envelope import Envelope
    from gateway.outbox.connection import Connection


class Envelopes:
    """Kept when delivered too: a sink that was restored from a backup may miss one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.size = self._stored_size()
        """Bytes of all messages."""

    def add(self, envelopes: Iterable[Envelope]) -> None:
        """One that is there already stays as it is."""
        for envelope in envelopes:
            self._connection.execute(
                queries.ENVELOPE_INSERT, (envelope.epoch, envelope.created_ms, envelope.message)
            )
            self.size += len(envelope.message)

    def adopt(self, epoch: bytes, created_ms: int, message: bytes, delivered: int) -> None:
        """One that was saved from a damaged database."""
        self._connection.execute(queries.ENVELOPE_ADOPT, (epoch, created_ms, message, delivered))
        self.size += len(message)

    def get(self, epochs: Iterable[bytes]) -> list[StoredEnvelope]:
        """Those that are kept."""
        found = []
        for epoch in epochs:
            row = self._connection.execute(queries.ENVELOPE, (epoch,)).fetchone()
            if row is not None:
                found.append(StoredEnvelope(row[0], row[1], row[2], bool(row[3])))
        return found

    def delivered(self, epochs: Iterable[bytes]) -> None:
        """The sink has these."""
        for epoch in epochs:
            self._connection.execute(queries.ENVELOPE_DELIVERED, (epoch,))

    def prune(self, created_before_ms: int, last_number: int, first_waiting: int) -> None:
        """Forget the older ones that nothing needs, without a scan of the entries.

        An epoch that old is no longer in use, so no entry above today's ``last_number`` was
        sealed with it. Once every entry up to that number is gone, the envelope can go.
        """
        self._connection.execute(queries.ENVELOPES_CLOSE, (last_number, created_before_ms))
        self._connection.execute(queries.ENVELOPES_PRUNE, (first_waiting,))
        self.size = self._stored_size()

    def _stored_size(self) -> int:
        row = self._connection.execute(queries.ENVELOPES_SIZE).fetchone()
        return 0 if row is None else int(row[0])


class Alarms:
    """(id, sealed): what must be known again after a restart."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(
        self, changed: Iterable[tuple[bytes, bytes]], gone: Iterable[bytes], at_ms: int
    ) -> None:
        """Insert or replace the changed ones, delete those that are gone."""
        for id_, sealed in changed:
            self._connection.execute(queries.ALARM_KEEP, (id_, sealed, at_ms))
        for id_ in gone:
            self._connection.execute(queries.ALARM_FORGET, (id_,))

    def all(self) -> list[tuple[bytes, bytes]]:
        """Oldest change first."""
        rows = self._connection.execute(queries.ALARMS).fetchall()
        return [(row[0], row[1]) for row in rows]
