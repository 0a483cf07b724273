"""What is remembered between packs: of a patient the latest values, of each device its beats.

Time. A node's clock can be wrong, be set, or start in the past, and packs come late, twice, or out
of order. So a stream lives in the clock of its node and asks of it only an order:

* A pack is *late* if its newest record is older than the newest of the stream. Its values change
  nothing; its beats are dropped as *repeated* when the stream has beats from that time on.
* A clock that was set back would make every pack late for ever and the patient unwatched. So when
  packs have been nothing but late for 15 s, the stream starts again in the new time.
* Ages are counted on the gateway's monotonic clock: the newest record of a pack is as old as the
  pack's arrival, the others are older by as much as the node says. The gateway's own time of day
  may be set at any moment: by it nothing grows old.
* Times in a pack that are relative to its arrival are in the gateway's time of day. If that is set
  back, they would all be late: the stream starts again at once.

A node that is silent for a while (out of reach, off) has not lost its heartbeat: *coverage* starts
again with the first pack after 30 s of silence, which is also when monitors announce "no
telemetry". Beats that never arrived must not count as consecutive either; see ``lost``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.vitals.observations import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.vitals.assessment import Assessment, Finding, News2
    from gateway.vitals.observations import Beat, Observation, Observations, Value

SAME_BEAT_S = 0.02
"""Times nearer than this are one heartbeat: two cannot be, and doubles of UTC seconds are exact to
a microsecond only."""

SILENCE_S = 30.0
"""Without packs for so long nothing is known of the time between (reference monitors: 30 s)."""

LOST_S = 10.0
"""Beats missing for longer than this end a run of consecutive ones. Shorter losses do not: a run
that went on before and after a lost packet almost surely went on meanwhile."""

CLOCK_SET_BACK_S = 30.0
RESTART_AFTER_S = 15.0
"""Older than the stream by the first, and nothing else for the second: the node's clock was set."""

OWN_CLOCK_SET_BACK_S = 1.0
"""Steps of the gateway's own time are seen at once; smaller ones are over before they matter."""


ARREARS_S = 3.0
"""A beat older than an earlier pack by more than this was held back; less is the order within a
pack, or the radio. Below the 4 s of an asystole, so that whoever could be mistaken is known."""

PROMPT_PACKS = 5
"""After so many packs without arrears a node is known to send each beat with its next pack."""


class Latest:
    """The last value of one name. The object stays while its patient is remembered, and takes on
    what is newer: rules may hold on to it."""

    __slots__ = ("time", "value")

    def __init__(self, value: Value, time: float) -> None:
        self.value = value
        self.time = time
        """By the gateway's monotonic clock."""


class Rule(Protocol):
    """One condition on one stream of one patient; keeps what it needs between packs.

    Called once for every pack, after the patient and the stream have taken it in.
    """

    def assess(self, patient: Patient, stream: Stream) -> Finding | None:
        """The finding that holds now or was completed by this pack, else None. Never raises."""
        ...


class Stream:
    """The packs of one device: what the last one brought, and what went before."""

    __slots__ = (
        "arrears",
        "beats",
        "clock",
        "contact",
        "contact_off_at",
        "covered_from",
        "declared",
        "device",
        "findings",
        "heard_at",
        "last_beat",
        "late",
        "late_beats",
        "lost",
        "newest",
        "offset",
        "prompt_packs",
        "pulse_at",
        "quality",
        "quality_at",
        "rhythms",
        "rules",
    )

    def __init__(self, device: str, rules: list[Rule]) -> None:
        self.device = device
        self.rules = rules
        self.findings: tuple[Finding, ...] = ()
        """Of the last pack."""

        # of this pack
        self.late = False
        """A newer pack was here before."""
        self.beats: list[Beat] = []
        """Not heard before, in order."""
        self.late_beats: list[Beat] = []
        """At or before the last beat: repeated, or overtaken on the way."""
        self.lost = False
        """More than LOST_S of beats is missing before the first of ``beats``."""
        self.rhythms: list[str] = []
        """Verdicts of the node itself."""
        self.declared = False
        """The node called this pack an emergency."""
        self.offset = 0.0
        """Gateway's time of day less node's clock."""
        self.clock = 0.0
        """Gateway's time of day less its monotonic clock."""

        # since the stream began; times are the node's
        self.newest = float("-inf")
        self.heard_at = 0.0
        """Gateway's monotonic time of the last pack that was not late."""
        self.covered_from = 0.0
        """Packs have come without a long silence since this time."""
        self.last_beat: float | None = None
        self.arrears = False
        """Beats came after packs that were later than the beats: the node collects them."""
        self.prompt_packs = 0
        """How many packs brought new beats, and none in arrears."""
        self.pulse_at = float("-inf")
        """When a heart rate above 0 was last reported."""
        self.contact: bool | None = None
        """Sensor on the skin; None if the node does not say."""
        self.contact_off_at = float("-inf")
        self.quality = 1.0
        self.quality_at = float("-inf")

    def is_new_time(
        self, observations: Observations, wall: float, now: float, *, absolute: bool
    ) -> bool:
        """Whether the clock of its times was set back, so that the stream has to start again."""
        if not absolute and wall - now < self.clock - OWN_CLOCK_SET_BACK_S:
            return True
        return (
            observations.newest < self.newest - CLOCK_SET_BACK_S
            and now - self.heard_at > RESTART_AFTER_S
        )

    @property
    def prompt(self) -> bool:
        """Whether a pack without beats means that there were none."""
        return self.prompt_packs >= PROMPT_PACKS and not self.arrears

    def absorb(
        self, observations: Observations, latest: dict[str, Latest], wall: float, now: float
    ) -> None:
        """Take in a pack; newer values go to the patient's ``latest``."""
        newest = observations.newest
        before = self.newest
        self.late = newest < before
        if not self.late:
            if newest - self.newest > SILENCE_S:
                self.covered_from = newest
            self.newest = newest
            self.heard_at = now
            self.offset = wall - newest
            self.clock = wall - now
        self.rhythms.clear()
        if observations.values:
            self._absorb_values(observations.values, latest)
        beats = observations.beats
        if beats:
            self._absorb_beats(beats, before)
        else:
            self.beats = self.late_beats = beats

    def _absorb_values(self, values: list[Observation], latest: dict[str, Latest]) -> None:
        late = self.late
        worn = True
        for name, value, time in values:
            if name not in _WATCHED:
                continue
            if name == "contact":
                if value is False:
                    worn = False
                    self.contact_off_at = max(self.contact_off_at, time)
                if not late:
                    self.contact = value is True
            elif name == "rhythm":
                self.rhythms.append(str(value))
            elif late:
                continue
            elif name == "quality":
                self.quality = float(value)
                self.quality_at = time
            elif name == "hr" and value:
                self.pulse_at = time
        if late:
            return
        offset = self.offset - self.clock
        for name, value, time in values:
            if worn or not _is_of_skin(name):
                known = latest.get(name)
                if known is None:
                    latest[name] = Latest(value, time + offset)
                else:
                    known.value = value
                    known.time = time + offset

    def _absorb_beats(self, beats: list[Beat], before: float) -> None:
        last = self.last_beat
        self.lost = False
        if last is None or beats[0][0] > last + SAME_BEAT_S:
            self.beats, self.late_beats = beats, []
        else:
            limit = last + SAME_BEAT_S
            self.late_beats = [beat for beat in beats if beat[0] <= limit]
            self.beats = beats[len(self.late_beats) :]
            if not self.beats:
                return
        time, rr = self.beats[0]
        self.lost = last is not None and time - rr - last > LOST_S
        self.last_beat = self.beats[-1][0]
        if self.late:
            return
        if before - time > ARREARS_S:
            self.arrears = True
        else:
            self.prompt_packs += 1


_WATCHED = frozenset(("contact", "hr", "quality", "rhythm"))
"""What streams look at themselves."""


def _is_of_skin(name: str) -> bool:
    number = NUMBERS.get(name)
    return number is not None and number.skin


class Patient:
    """Everything that is remembered of one patient."""

    __slots__ = ("id", "latest", "news2", "now", "rules", "streams", "wall", "well")

    MAX_STREAMS = 8
    """Devices of one patient: a bracelet, bedside sensors; the one silent longest makes room."""

    def __init__(self, identifier: str, rules: list[Rule]) -> None:
        self.id = identifier
        self.rules = rules
        """Those that look at all devices together."""
        self.latest: dict[str, Latest] = {}
        """Of all devices. Its size is that of the table of names."""
        self.streams: dict[str, Stream] = {}
        self.wall = 0.0
        """Arrival of the pack in hand, UTC: to be shown to people."""
        self.now = 0.0
        """The same by the monotonic clock: for ages."""
        self.news2: News2 | None = None
        """As of the pack in hand."""
        self.well: Assessment | None = None
        """The last assessment that found nothing: the next one is often the same."""

    def absorb(
        self,
        device: str,
        observations: Observations,
        *,
        wall: float,
        now: float,
        absolute: bool,
        rules: Callable[[], list[Rule]],
    ) -> Stream:
        """Take in a pack of ``device``; ``rules`` makes the rules of a stream that starts.

        ``absolute``: the pack's times are the node's, not relative to its arrival at ``wall``.
        """
        self.wall = wall
        self.now = now
        stream = self.streams.get(device)
        if stream is None or stream.is_new_time(observations, wall, now, absolute=absolute):
            if stream is None and len(self.streams) >= self.MAX_STREAMS:
                silent = min(self.streams.values(), key=lambda known: known.heard_at)
                del self.streams[silent.device]
            stream = self.streams[device] = Stream(device, rules())
        stream.absorb(observations, self.latest, wall, now)
        return stream

    def standing(self, stream: Stream) -> list[Finding]:
        """What the other devices found last, unless they have fallen silent since."""
        return [
            finding
            for other in self.streams.values()
            if other is not stream and self.now - other.heard_at <= SILENCE_S
            for finding in other.findings
        ]
