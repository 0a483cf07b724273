"""Alarms that survive a restart: the table of alarms, written to the outbox, sealed.

The words of an alarm tell about a patient, so they do not reach the disk in the clear. They are for
this gateway itself, not for a recipient, hence sealed with a key of its own (``local.key``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.clock import iso
from gateway.errors import OutboxError
from gateway.vitals.alarms import Alarm, Alarms
from gateway.vitals.assessment import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.intake import Judged

_log = logging.getLogger("alarms")

_NONCE_BYTES: Final = 12


@dataclass(slots=True)
class AlarmBook:
    """Follows what intake judges.

    key: 32 bytes. keep: stores (key, sealed) pairs and forgets keys, durably, before returning to
    routine work (see :meth:`gateway.outbox.writer.Writer.keep_alarms`).
    """

    key: bytes
    random: Callable[[int], bytes]
    keep: Callable[[Sequence[tuple[bytes, bytes]], Sequence[bytes]], None]
    alarms: Alarms

    def restore(self, stored: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over what was active before a restart. What cannot be opened is passed over."""
        opened = (open_alarm(self.key, name, sealed) for name, sealed in stored)
        self.alarms.restore(alarm for alarm in opened if alarm is not None)

    def judged(self, judged: Judged, wall: float) -> None:
        """A pack has been judged: raise and resolve what it shows. Does not raise."""
        name, patient, device, assessment = judged
        changed = self.alarms.update(patient, device, assessment, record_id=name, wall=wall)
        if not changed:
            return
        for alarm in changed:
            state = "raised" if alarm.resolved is None else "resolved"
            _log.warning("alarm %s: rule %s, device %s", state, alarm.rule, alarm.device)
        try:
            self.keep(
                [(alarm.key, self._seal(alarm)) for alarm in changed if alarm.resolved is None],
                [alarm.key for alarm in changed if alarm.resolved is not None],
            )
        except OutboxError as error:
            _log.critical("an alarm cannot be stored: %s", error)

    def listed(self) -> list[dict[str, Any]]:
        """Those whose condition holds, oldest first, as JSON shows them to people."""
        return [
            {
                "id": alarm.id.hex(),
                "patient": alarm.patient,
                "device": alarm.device,
                "rule": alarm.rule,
                "priority": str(alarm.priority),
                "detail": alarm.detail,
                "raised": iso(alarm.raised),
            }
            for alarm in self.alarms.active()
        ]

    def _seal(self, alarm: Alarm) -> bytes:
        nonce = self.random(_NONCE_BYTES)
        plaintext = cbor2.dumps(
            [str(part) if isinstance(part, Priority) else part for part in alarm]
        )
        return nonce + AESGCM(self.key).encrypt(nonce, plaintext, alarm.key)


def open_alarm(key: bytes, name: bytes, sealed: bytes) -> Alarm | None:
    """A stored alarm; None, and a line in the log, for one that cannot be opened."""
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        alarm = Alarm(*cbor2.loads(AESGCM(key).decrypt(nonce, body, name)))
        return alarm._replace(priority=Priority(alarm.priority))
    except (InvalidTag, ValueError, TypeError):
        _log.error("a stored alarm cannot be opened: was local.key replaced?")
        return None
