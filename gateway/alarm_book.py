"""The alarms of a gateway: raised, resolved, logged, and stored so that they survive a restart.

Three things raise alarms: what triage finds in a pack, a device that is silent or cannot be
understood, and the gateway itself. The words of an alarm tell about a patient, so they do not reach
the disk in the clear. They are for this gateway itself, not for a recipient, hence sealed with a
key of its own (``local.key``). So is the watch over each device, or a bracelet that fell silent
while the gateway was away would never be missed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.clock import iso
from gateway.errors import OutboxError
from gateway.vitals.alarms import Alarm, Alarms
from gateway.vitals.assessment import Priority
from gateway.vitals.silence import Config as SilenceConfig
from gateway.vitals.silence import Silence, Watch
from gateway.vitals.technical import RULES, SILENCE, UNREADABLE, Technical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.intake import Judged

_log = logging.getLogger("alarms")

_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 16

HOLD_S: Final = 10.0
"""A device of whose messages some are refused is one alarm, and not one a message."""

SEALED: Final = "declared_sealed"
"""Rule of an emergency that a node has sealed itself: nobody here knows more of it."""


@dataclass(slots=True)
class AlarmBook:
    """Follows what intake hears and judges.

    key: 32 bytes. keep: stores (name, sealed) pairs and forgets names, durably, before returning to
    routine work (see :meth:`gateway.outbox.writer.Writer.keep_alarms`).
    """

    key: bytes
    random: Callable[[int], bytes]
    keep: Callable[[Sequence[tuple[bytes, bytes]], Sequence[bytes]], None]
    alarms: Alarms = field(default_factory=Alarms)
    silence: Silence = field(default_factory=lambda: Silence(SilenceConfig()))
    technical: Technical = field(default_factory=Technical)
    _refused: dict[str, float] = field(default_factory=dict)
    """Device -> when its last message was refused, while that is an alarm."""

    def restore(self, stored: Iterable[tuple[bytes, bytes]], now: float) -> None:
        """Take over what was active before a restart. What cannot be opened is passed over."""
        opened = [open_kept(self.key, name, sealed) for name, sealed in stored]
        alarms = [one for one in opened if isinstance(one, Alarm)]
        self.technical.restore(one for one in alarms if one.rule in RULES)
        self.alarms.restore(one for one in alarms if one.rule not in RULES)
        for one in opened:
            if isinstance(one, Watch):
                silent = self.technical.get(one.device, SILENCE) is not None
                self.silence.restore(one, now, silent=silent)

    # -- what intake tells; nothing here raises

    def heard(self, device: str, patient: str, added: str, now: float, wall: float) -> None:
        """A message of this device has come, whatever becomes of it."""
        if self.silence.heard(device, patient, added, now):
            back = self.silence.back(device)
            # At once: this device must be missed even if the next moment is a power cut.
            self._change(self.technical.resolve(device, SILENCE, wall) if back else [])

    def judged(self, judged: Judged, wall: float) -> None:
        """A pack has been judged: raise and resolve what it shows."""
        name, patient, device, assessment = judged
        changed = self.alarms.update(patient, device, assessment, record_id=name, wall=wall)
        held = 0.0 <= wall - self._refused.get(device, float("-inf")) < HOLD_S  # unless set back
        if len(self.technical) and not held:
            self._refused.pop(device, None)
            changed += self.technical.resolve(device, UNREADABLE, wall)
        if changed:
            self._change(changed)

    def refused(self, device: str, patient: str, reason: str, wall: float) -> None:
        """A message could not be understood, so nobody knows how the patient is. The alarm ends
        with a sound pack, but not sooner than :data:`HOLD_S` after this."""
        self._refused[device] = wall
        if self.technical.get(device, UNREADABLE) is None:
            self.raise_technical(
                self.random(_ID_BYTES), device, patient, UNREADABLE, f"refused: {reason}", wall
            )

    def sealed(
        self, name: bytes, patient: str, device: str, wall: float, *, declared: bool
    ) -> None:
        """A message that only its readers can open has come. ``declared``: as an emergency; the
        next that is none ends the alarm."""
        if not declared:
            changed = self.alarms.resolve(patient, SEALED, wall)
        else:
            detail = "declared by the device in a message that only its readers can open"
            changed = self.alarms.add(
                Alarm(name, patient, device, SEALED, Priority.EMERGENCY, detail, wall, None)
            )
        if changed:
            self._change(changed)

    # -- what the gateway notices

    def raise_technical(
        self, name: bytes, device: str, patient: str, rule: str, detail: str, wall: float
    ) -> None:
        """``name``: 16 bytes."""
        alarm = Alarm(name, patient, device, rule, Priority.TECHNICAL, detail, wall, None)
        self._change(self.technical.add(alarm))

    def end_technical(self, device: str, rule: str, wall: float) -> None:
        """Nothing happens if there is none."""
        if changed := self.technical.resolve(device, rule, wall):
            self._change(changed)

    def sweep(self, now: float, wall: float) -> None:
        """Raise the alarms of those that have fallen silent, in one transaction. Call every
        quarter of a second."""
        changed: list[Alarm] = []
        for device, patient, seconds, period in self.silence.sweep(now):
            detail = f"nothing heard for {seconds:.0f} s; usual are {period:.0f} s"
            changed += self.technical.add(
                Alarm(
                    self.random(_ID_BYTES),
                    *(patient, device, SILENCE, Priority.TECHNICAL, detail, wall),
                    None,
                )
            )
        self._change(changed)

    def keep_only(self, is_current: Callable[[str, str, str], bool], wall: float) -> None:
        """End what is of devices of which ``is_current(device, patient, added)`` does not hold: the
        watch over them, and their technical alarms."""
        changed: list[Alarm] = []
        gone = self.silence.keep_only(is_current)
        for device in gone:
            self._refused.pop(device, None)
            for rule in (SILENCE, UNREADABLE):
                changed += self.technical.resolve(device, rule, wall)
        if gone:
            self._change(changed, [self._watch_name(device) for device in gone])

    def active(self) -> list[Alarm]:
        """Those whose condition holds, oldest first."""
        return sorted(
            self.alarms.active() + self.technical.active(), key=lambda alarm: alarm.raised
        )

    def listed(self) -> list[dict[str, Any]]:
        """The same, as JSON shows them to people."""
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
            for alarm in self.active()
        ]

    # -- to the log and to the disk

    def _change(self, changed: Sequence[Alarm], gone: Sequence[bytes] = ()) -> None:
        for alarm in changed:
            state = "raised" if alarm.resolved is None else "resolved"
            _log.warning("alarm %s: rule %s, device %s", state, alarm.rule, alarm.device)
        kept = [
            *((alarm.key, self._seal(alarm)) for alarm in changed if alarm.resolved is None),
            *self._watches(),
        ]
        forgotten = [*(alarm.key for alarm in changed if alarm.resolved is not None), *gone]
        if not kept and not forgotten:
            return
        try:
            self.keep(kept, forgotten)
        except OutboxError as error:
            _log.critical("an alarm cannot be stored: %s", error)

    def _watches(self) -> list[tuple[bytes, bytes]]:
        found = []
        for watch in self.silence.to_keep():
            name = self._watch_name(watch.device)
            found.append((name, self._sealed(name, watch._asdict())))
        return found

    def _watch_name(self, device: str) -> bytes:
        """Shorter than any alarm's, which has 16 bytes and its rule."""
        return blake2b(device.encode(), key=self.key, digest_size=_ID_BYTES).digest()

    def _seal(self, alarm: Alarm) -> bytes:
        parts = [str(part) if isinstance(part, Priority) else part for part in alarm]
        return self._sealed(alarm.key, parts)

    def _sealed(self, name: bytes, content: object) -> bytes:
        nonce = self.random(_NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, cbor2.dumps(content), name)


def open_kept(key: bytes, name: bytes, sealed: bytes) -> Alarm | Watch | None:
    """A stored alarm or watch; None, and a line in the log, for one that cannot be opened."""
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        content = cbor2.loads(AESGCM(key).decrypt(nonce, body, name))
        if isinstance(content, dict):
            return Watch(**content)
        alarm = Alarm(*content)
        return alarm._replace(priority=Priority(alarm.priority))
    except (InvalidTag, ValueError, TypeError):
        _log.error("a stored alarm cannot be opened: was local.key replaced?")
        return None
