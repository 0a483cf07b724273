"""From one accepted payload to one sealed outbox entry: the only clinical path.

Both lanes of ingress call :meth:`Intake.admit`. It decodes, resolves, recognises what was stored
before, triages, and seals; it touches no socket, clock, disk or thread. A message that is refused
has changed nothing but the triage's memory, which takes repeated samples for what they are.

What tells a message that comes a second time, after a reconnect or a restart, from an equal but new
measurement: absolute times in every record, or the device's ``boot`` and ``seq``. A pack that has
neither is always new, because two equal measurements are two measurements.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.coap.fastlane import DECLARED, FORMATS, Kind
from gateway.cose import cbor, record
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    PeerError,
    UnsupportedContentFormatError,
)
from gateway.lane import Lane
from gateway.outbox.entry import Entry
from gateway.senml.pack import resolve_untrusted
from gateway.senml.senml_cbor import encode_pack
from gateway.vitals.assessment import to_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.cose.envelope import Envelope
    from gateway.cose.epochs import Epochs
    from gateway.endpoint import Endpoint
    from gateway.recent_keys import RecentKeys
    from gateway.roster.ward import Assignment, Ward
    from gateway.senml.layout import Pack
    from gateway.vitals.assessment import Assessment
    from gateway.vitals.triage import Triage

_NOT_YET: Final = RuntimeError("an offer without an outcome")
_SEALED_OVERHEAD: Final = 256
"""What sealing adds at most, for asking whether there is room before the sealing."""

_ASSESSMENTS: Final = 4096
"""Encoded assessments kept: most packs are judged as the one before."""

_STAGES: Final = range(4)
_READ: Final = 0
_JUDGE: Final = 1
_SEAL: Final = 3

_SEALED: Final = (Kind.SEALED, Kind.SEALED_ALARM)


class Offer(NamedTuple):
    """One payload that an authenticated device has sent."""

    endpoint: Endpoint
    kind: Kind
    content_format: int
    payload: bytes


class Admitted:
    """What is to be stored before the device may be answered."""

    __slots__ = ("entry", "envelope")

    def __init__(self, entry: Entry, envelope: Envelope | None) -> None:
        self.entry = entry
        self.envelope = envelope
        """Of a new epoch: to be stored with the entry or before it."""


class Judged(NamedTuple):
    """What triage says of one pack, whether or not there is room to store it."""

    record_id: bytes
    patient: str
    device: str
    assessment: Assessment


class Book(Protocol):
    """Who follows what comes in: :class:`gateway.alarm_book.AlarmBook`. Nothing here raises."""

    def heard(self, device: str, patient: str, added: str, now: float, wall: float) -> None:
        """A message of a device in the roster has come, whatever becomes of it."""
        ...

    def judged(self, judged: Judged, wall: float) -> None:
        """Of every judgement, also when the record is then refused: an alarm must not depend on
        room."""
        ...

    def refused(self, device: str, patient: str, reason: str, wall: float) -> None:
        """A message could not be understood, and its vitals not be judged."""
        ...

    def sealed(
        self, name: bytes, patient: str, device: str, wall: float, *, declared: bool
    ) -> None:
        """A message that the node has sealed itself. ``name``: the record's id."""
        ...


class Repeated(NamedTuple):
    """The message came before."""

    stored: bool
    """Whether it is on disk: only then may it be acknowledged."""


Outcome = Admitted | Repeated | Exception
"""What became of an offer. PeerError, OutboxFull: the answer to give is in the class. SealError:
nobody may read this patient and lane. Any other exception is a bug."""


class _Moment(NamedTuple):
    """When a burst came."""

    now: float
    wall: float
    wall_ms: int


class _Work:
    """One offer on its way through the stages."""

    __slots__ = (
        "assessment",
        "assignment",
        "device",
        "key",
        "lane",
        "name",
        "offer",
        "pack",
        "place",
        "plaintext",
    )

    def __init__(self, place: int, offer: Offer) -> None:
        self.place = place
        self.offer = offer
        self.device = offer.endpoint.device
        self.assignment: Assignment
        self.pack: Pack | None = None
        self.key: bytes | None = None
        self.assessment: Assessment | None = None
        self.lane = Lane.ROUTINE
        self.name: bytes
        self.plaintext: bytes


class Intake:
    """See the module.

    gateway: its name, bound into every record. check_room: raises OutboxFull for a lane and a
    size.
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
        book: Book,
        random: Callable[[int], bytes],
    ) -> None:
        self._gateway = gateway
        self._ward = ward
        self._triage = triage
        self._epochs = epochs
        self._recent = recent
        self._check_room = check_room
        self._book = book
        self._ids = record.RecordIds(random(6))
        self.clock_quality = "synchronised"
        """A word for the gateway's clock, stored with each record."""

    def admit(self, offers: Sequence[Offer], *, now: float, wall: float) -> list[Outcome]:
        """Judge and seal a burst; one outcome for each offer, in order. Never raises.

        Stage by stage for the whole burst, because the interpreter's and the processor's caches
        then stay with one stage: measured at two thirds of the time of message by message.
        """
        outcomes: list[Outcome] = [_NOT_YET] * len(offers)
        work = [_Work(place, offer) for place, offer in enumerate(offers)]
        moment = _Moment(now, wall, int(wall * 1000))
        for stage in _STAGES:
            alive = []
            for one in work:
                try:
                    outcome = self._do(stage, one, moment)
                except Exception as error:
                    outcomes[one.place] = error
                    if one.key is not None:
                        self._recent.forget(one.key)
                    if isinstance(error, PeerError):
                        self._not_understood(one.device, error, wall)
                    continue
                if outcome is None:
                    alive.append(one)
                else:
                    outcomes[one.place] = outcome
            work = alive
        return outcomes

    def stored(self, key: bytes) -> None:
        """The message with this key is on disk: its repetition may be acknowledged."""
        self._recent.stored(key)

    def refused(self, key: bytes) -> None:
        """There was no room for the message with this key: its repetition is a new one."""
        self._recent.forget(key)

    def _do(self, stage: int, one: _Work, moment: _Moment) -> Outcome | None:
        # Calls by name, which are compiled to calls; bound methods in a tuple are not.
        if stage == _READ:
            return self._read(one, moment)
        if stage == _SEAL:
            return self._seal(one, moment)
        if stage == _JUDGE:
            self._judge(one, moment)
        else:
            self._write(one, moment)
        return None

    def _read(self, one: _Work, moment: _Moment) -> Repeated | None:
        """Decode, resolve, and recognise what came before."""
        _, kind, content_format, payload = one.offer
        device = one.device
        assignment = self._ward.assignment(device)
        if assignment is None:
            raise ForbiddenError(f"device {device} has been revoked")
        one.assignment = assignment
        self._book.heard(device, assignment.patient, assignment.added, moment.now, moment.wall)
        if kind in _SEALED:
            if content_format not in FORMATS[kind]:
                raise UnsupportedContentFormatError("use Content-Format 16 or 96 here")
            if not _looks_like_cose(payload):
                raise BadRequestError("not a COSE message")
            return None
        pack = one.pack = resolve_untrusted(
            payload, content_format, device=device, wall=moment.wall
        )
        if pack.absolute or (pack.boot is not None and pack.seq is not None):
            whose = _whose(kind, device, assignment.added)
            key = blake2b(whose + payload, digest_size=16).digest()
            state = self._recent.begin(key)
            if state is not None:
                return Repeated(state)
            one.key = key
        return None

    def _not_understood(self, device: str, error: PeerError, wall: float) -> None:
        assignment = self._ward.assignment(device)
        if assignment is not None:
            self._book.refused(device, assignment.patient, str(error), wall)

    def _judge(self, one: _Work, moment: _Moment) -> None:
        """Triage; what nobody here can open has the lane that its node chose."""
        declared = one.offer.kind in DECLARED
        one.name = self._ids.mint(moment.wall_ms)
        if one.pack is None:
            one.lane = Lane.EMERGENCY if declared else Lane.ROUTINE
            patient = one.assignment.patient
            self._book.sealed(one.name, patient, one.device, moment.wall, declared=declared)
            return
        assignment = one.assignment
        one.assessment = self._triage.assess(
            assignment.patient,
            one.pack,
            wall=moment.wall,
            now=moment.now,
            declared=declared,
            lenient_units=assignment.lenient_units,
        )
        one.lane = one.assessment.lane
        judged = _new(Judged, (one.name, assignment.patient, one.device, one.assessment))
        self._book.judged(judged, moment.wall)

    def _write(self, one: _Work, moment: _Moment) -> None:
        """The plaintext of the record."""
        _, _, content_format, payload = one.offer
        sealed = (content_format, payload) if one.pack is None else None
        resolved = None if one.pack is None else encode_pack(one.pack)
        patient, quality = one.assignment.patient, self.clock_quality
        plaintext = _new(
            record.Plaintext,
            (one.device, patient, moment.wall_ms, quality, resolved, sealed, None),
        )
        assessment = None if one.assessment is None else _encoded(one.assessment)
        one.plaintext = record.encode(plaintext, assessment=assessment)

    def _seal(self, one: _Work, moment: _Moment) -> Admitted:
        """The entry, with the envelope of its epoch if that is new."""
        assignment, lane = one.assignment, one.lane
        # Before a new epoch is opened: its envelope must not be refused with the entry.
        self._check_room(lane, len(one.plaintext) + _SEALED_OVERHEAD)
        now, wall, received_ms = moment
        pseudonym = assignment.pseudonym
        sealer, envelope = self._epochs.current(
            pseudonym, lane, assignment.readers[lane], now=now, wall=wall
        )
        name = one.name
        bound = record.external_aad(self._gateway, name, pseudonym, lane, received_ms)
        sealed = sealer.seal(one.plaintext, bound)
        entry = _new(Entry, (name, lane, pseudonym, received_ms, sealer.epoch, sealed, one.key))
        return Admitted(entry, envelope)


_new = tuple.__new__
"""Makes a named tuple at a quarter of the cost of calling its class (1 us a record in all)."""


@lru_cache(maxsize=_ASSESSMENTS)
def _encoded(assessment: Assessment) -> bytes:
    return cbor.encode(to_map(assessment))


@lru_cache(maxsize=8192)
def _whose(kind: Kind, device: str, added: str) -> bytes:
    """What stands before the payload in a digest of who said what where."""
    return f"{kind} {device} {added}\0".encode()


def _looks_like_cose(payload: bytes) -> bool:
    """An array of 3 (Encrypt0) or 4 (Encrypt) items, with or without its tag (RFC 9052 2)."""
    head = payload.removeprefix(b"\xd0").removeprefix(b"\xd8\x60")
    return head[:1] in (b"\x83", b"\x84")
