"""From one accepted payload to one sealed outbox entry: the only clinical path.

Both lanes of ingress call :meth:`Intake.admit`. It decodes, resolves, recognises what was stored
before, triages, and seals; it touches no socket, clock, disk or thread. Either everything succeeds
or nothing has changed but the triage's memory, which takes repeated samples for what they are.

What tells a message that comes a second time, after a reconnect or a restart, from an equal but new
measurement: absolute times in every record, or the device's ``boot`` and ``seq``. A pack that has
neither is always new, because two equal measurements are two measurements.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.coap.fastlane import Kind
from gateway.cose import record
from gateway.errors import BadRequestError, ForbiddenError, UnsupportedContentFormatError
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.senml.pack import resolve_untrusted
from gateway.senml.senml_cbor import encode_cbor
from gateway.vitals.assessment import to_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.cose.envelope import Envelope
    from gateway.cose.epochs import Epochs
    from gateway.endpoint import Endpoint
    from gateway.roster.ward import Ward
    from gateway.senml.pack import Pack
    from gateway.vitals.assessment import Assessment
    from gateway.vitals.triage import Triage

RECENT: Final = 65_536
"""Messages whose repetition is recognised: an hour of a ward of 18 bracelets at 1 Hz."""

_COSE_FORMATS: Final = (16, 96)
_SEALED_OVERHEAD: Final = 256
"""What sealing adds at most, for asking whether there is room before the sealing."""

_DECLARED: Final = (Kind.ALARM, Kind.SEALED_ALARM)
_SEALED: Final = (Kind.SEALED, Kind.SEALED_ALARM)


class Admitted(NamedTuple):
    """What is to be stored before the device may be answered."""

    entry: Entry
    envelope: Envelope | None
    """Of a new epoch: to be stored with the entry or before it."""
    assessment: Assessment | None
    patient: str


class Repeated(NamedTuple):
    """The message came before."""

    stored: bool
    """Whether it is on disk: only then may it be acknowledged."""


class RecentKeys:
    """The messages of late, oldest forgotten first, and whether they are on disk.

    ``stored`` at the start: what the outbox remembers from before.
    """

    def __init__(self, stored: Iterable[bytes]) -> None:
        self._keys = dict.fromkeys(stored, True)

    def state(self, key: bytes) -> bool | None:
        """True: on disk; False: on its way there; None: not seen."""
        return self._keys.get(key)

    def add(self, key: bytes) -> None:
        """Admitted, not yet on disk."""
        if len(self._keys) >= RECENT:
            del self._keys[next(iter(self._keys))]
        self._keys[key] = False

    def stored(self, key: bytes) -> None:
        """On disk."""
        if key in self._keys:
            self._keys[key] = True


class Intake:
    """See the module.

    gateway: its name, bound into every record. check_room: raises OutboxFull for a lane and a
    size. clock_quality: a word for the gateway's clock, stored with each record.
    """

    def __init__(
        self,
        *,
        gateway: str,
        ward: Ward,
        triage: Triage,
        epochs: Epochs,
        recent: RecentKeys,
        check_room: Callable[[Lane, int], None],
        random: Callable[[int], bytes],
    ) -> None:
        self._gateway = gateway
        self._ward = ward
        self._triage = triage
        self._epochs = epochs
        self._recent = recent
        self._check_room = check_room
        self._id_tail = random(6)
        self._id_count = 0
        self.clock_quality = "synchronised"

    def admit(
        self,
        endpoint: Endpoint,
        kind: Kind,
        content_format: int,
        payload: bytes,
        *,
        now: float,
        wall: float,
    ) -> Admitted | Repeated:
        """Judge and seal one payload that an authenticated device has sent.

        Raises:
            PeerError: the answer to give is in its class.
            OutboxFull: no room in the lane that triage has chosen.
            SealError: nobody may read this patient and lane.
        """
        device = endpoint.device
        assignment = self._ward.assignment(device)
        if assignment is None:
            raise ForbiddenError(f"device {device} has been revoked")
        declared = kind in _DECLARED
        if kind in _SEALED:
            if content_format not in _COSE_FORMATS:
                raise UnsupportedContentFormatError("use Content-Format 16 or 96 here")
            if not _looks_like_cose(payload):
                raise BadRequestError("not a COSE message")
            key, assessment, resolved = None, None, None
            lane = Lane.EMERGENCY if declared else Lane.ROUTINE
        else:
            pack = resolve_untrusted(payload, content_format, device=device, wall=wall)
            key = _key(device, kind, payload, pack)
            state = None if key is None else self._recent.state(key)
            if state is not None:
                return Repeated(state)
            assessment = self._triage.assess(
                assignment.patient,
                device,
                pack.records,
                wall=wall,
                declared=declared,
                lenient_units=assignment.lenient_units,
            )
            lane = assessment.lane
            resolved = encode_cbor(pack.records)
        received_ms = int(wall * 1000)
        plaintext = record.encode(
            record.Plaintext(
                device,
                assignment.patient,
                received_ms,
                self.clock_quality,
                resolved,
                None if resolved is not None else (content_format, payload),
                None if assessment is None else to_map(assessment),
            )
        )
        # Before a new epoch is opened: its envelope must not be refused with the entry.
        self._check_room(lane, len(plaintext) + _SEALED_OVERHEAD)
        sealer, envelope = self._epochs.current(
            assignment.pseudonym, lane, assignment.readers[lane], now=now, wall=wall
        )
        header = record.Header(
            self._record_id(received_ms), assignment.pseudonym, lane, received_ms, sealer.epoch
        )
        sealed = sealer.seal(plaintext, record.external_aad(self._gateway, header))
        if key is not None:
            self._recent.add(key)
        entry = Entry(header.id, lane, header.patient, received_ms, header.epoch, sealed, key)
        return Admitted(entry, envelope, assessment, assignment.patient)

    def stored(self, key: bytes) -> None:
        """The message with this key is on disk: its repetition may be acknowledged."""
        self._recent.stored(key)

    def _record_id(self, received_ms: int) -> bytes:
        """UUID version 7 (RFC 9562 section 5.7): milliseconds, a counter, bytes of this process."""
        count = self._id_count = (self._id_count + 1) & 0x3FFFFFF
        high = 0x7000 | count >> 14
        low = 0x8000 | count & 0x3FFF
        return (received_ms << 32 | high << 16 | low).to_bytes(10, "big") + self._id_tail


def _key(device: str, kind: Kind, payload: bytes, pack: Pack) -> bytes | None:
    if not pack.absolute and (pack.boot is None or pack.seq is None):
        return None
    person = device.encode().ljust(64, b"\0")[:64]
    return hashlib.blake2b(payload, digest_size=16, key=person, person=kind.encode()).digest()


def _looks_like_cose(payload: bytes) -> bool:
    """An array of 3 (Encrypt0) or 4 (Encrypt) items, with or without its tag (RFC 9052 2)."""
    head = payload.removeprefix(b"\xd0").removeprefix(b"\xd8\x60")
    return head[:1] in (b"\x83", b"\x84")
