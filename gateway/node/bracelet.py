"""What a bracelet sends: a SenML pack a second, made from a recording of a real heart.

Each pack has the beats of its second (``rr`` with the time of the beat), a mean heart rate, skin
contact, and the device's counters ``boot`` and ``seq``, by which the gateway knows a pack that it
has stored before.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cbor2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.node.recording import Recording

PERIOD_S: Final = 1.0
"""Of recorded time. A shorter one would cost radio, a longer one delays an asystole's alarm."""

_BEATS_FOR_RATE: Final = 8

# RFC 8428 section 6: integer labels of SenML in CBOR.
_BASE_TIME, _NAME, _UNIT, _VALUE, _BOOLEAN, _TIME = -3, 0, 1, 2, 4, 6


class Pack(NamedTuple):
    """One message to ``/v``."""

    seq: int
    due: float
    """Seconds of recorded time after the start at which it is sent."""
    payload: bytes
    """SenML in CBOR, Content-Format 112."""


def packs(recording: Recording, *, start: float, origin: float, boot: int) -> Iterator[Pack]:
    """Endless: the recording from ``start`` (seconds) on, again and again.

    origin: UTC seconds that the first second of the replay stands for.
    """
    rates: deque[float] = deque(maxlen=_BEATS_FOR_RATE)
    beats = _endless(recording, start)
    time, rr = next(beats)
    seq, due = 0, PERIOD_S
    while True:
        records: list[dict[int, Any]] = []
        while time <= due:
            rates.append(rr)
            moment = round(time - due, 3)
            records.append({_NAME: "rr", _UNIT: "ms", _VALUE: round(rr * 1000), _TIME: moment})
            time, rr = next(beats)
        if rates:
            rate = round(60 * len(rates) / sum(rates))
            records.append({_NAME: "hr", _UNIT: "1/min", _VALUE: rate})
        records.append({_NAME: "contact", _BOOLEAN: True})
        records.append({_NAME: "boot", _VALUE: boot})
        records.append({_NAME: "seq", _VALUE: seq})
        records[0] = {_BASE_TIME: round(origin + due, 3), **records[0]}
        yield Pack(seq, due, cbor2.dumps(records))
        seq, due = seq + 1, due + PERIOD_S


def _endless(recording: Recording, start: float) -> Iterator[tuple[float, float]]:
    """(time, rr) of every beat after ``start``, in seconds of replay; the end joins the start."""
    usual = recording.beats[-1].rr or PERIOD_S
    period = recording.duration + usual - recording.beats[0].time
    start %= period
    offset = -start
    beats = [beat for beat in recording.beats if beat.time >= start]
    while True:
        for beat in beats:
            yield beat.time + offset, beat.rr or usual
        offset += period
        beats = list(recording.beats)
