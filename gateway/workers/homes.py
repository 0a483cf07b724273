"""Intake of a worker among others: its own patients' offers are judged here, the others' at home.

Stands where :class:`gateway.intake.Intake` stands in a gateway without workers. What other workers
hand over is judged by the same intake and stored by the same writer as what comes in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.coap.fastlane import DECLARED
from gateway.errors import OutboxError, OutboxFull
from gateway.ingress.batch import RETRY_AFTER_STOP_S, Handed, tally
from gateway.intake import Admitted, Outcome, Repeated
from gateway.lane import Lane
from gateway.workers import wire
from gateway.workers.link import Link
from gateway.workers.place import home
from gateway.workers.wire import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.ingress.batch import Waiting
    from gateway.intake import Intake, Offer
    from gateway.outbox.writer import Writer
    from gateway.roster.ward import Ward
    from gateway.workers.lifeline import Pair
    from gateway.workers.place import Place
    from gateway.workers.wire import Asked, Result

_log = logging.getLogger("workers")

_RETRY_ROSTER_S: Final = 2.0
"""Max-Age of 5.03 while two workers have read different rosters: each looks every second."""


class Owed(NamedTuple):
    """What the writer gives back for entries of another worker's offers: whom to tell."""

    link: Link
    number: int
    places: list[tuple[int, bytes | None]]
    """Place in the question, and the key of the message."""


class Homes:
    """See the module. ``refresh`` reads the rosters again if they have changed."""

    def __init__(
        self,
        place: Place,
        *,
        intake: Intake,
        ward: Ward,
        writer: Writer,
        refresh: Callable[[], None],
    ) -> None:
        self._place = place
        self._intake = intake
        self._ward = ward
        self._writer = writer
        self._refresh = refresh
        self._links: dict[tuple[int, bool], Link] = {}
        self.refusing: str | None = None
        """While stopping: why nothing more of other workers is taken (5.03)."""
        self.counts: Counter[str] = Counter()
        """Messages of other workers by what became of them here."""

    async def start(
        self,
        ends: Mapping[int, Pair],
        *,
        told: Callable[[list[tuple[Waiting, Result]]], None],
        broken: Callable[[int], None],
    ) -> None:
        """Open the links. ``told``: answer those who wait; ``broken``: a worker has gone."""
        for other, pair in ends.items():
            for declared, end in ((False, pair.routine), (True, pair.declared)):
                link = Link(other, asked=self._asked, told=told, broken=broken)
                await link.open(end)
                self._links[other, declared] = link

    async def drained(self, within_s: float) -> None:
        """Returns when every other worker has answered for what was handed to it, or after some
        time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for link in self._links.values():
                    await link.idle.wait()

    def close(self) -> None:
        """Hang up."""
        for link in self._links.values():
            link.close()

    # -- what the driver calls

    def admit(
        self, offers: Sequence[Offer], *, now: float, wall: float
    ) -> Sequence[Outcome | Handed]:
        """As :meth:`gateway.intake.Intake.admit`; ``Handed`` for a patient of another worker."""
        mine: list[Offer] = []
        found: dict[int, Handed | OutboxFull] = {}
        leaving: defaultdict[Link, list[tuple[Offer, Handed]]] = defaultdict(list)
        for place, offer in enumerate(offers):
            at = self._home(offer)
            if at is None or at == self._place.number:
                mine.append(offer)
                continue
            link = self._links[at, offer.kind in DECLARED]
            refusal = link.refusal()
            if refusal is not None:
                found[place] = refusal
                continue
            handed = found[place] = Handed()
            leaving[link].append((offer, handed))
        for link, handed_over in leaving.items():
            self.counts["handed_over"] += len(handed_over)
            link.ask(now, wall, handed_over)
        outcomes = self._intake.admit(mine, now=now, wall=wall) if mine else []
        if not found:
            return outcomes
        rest = iter(outcomes)
        return [found.get(place) or next(rest) for place in range(len(offers))]

    def stored(self, key: bytes) -> None:
        """See :meth:`gateway.intake.Intake.stored`."""
        self._intake.stored(key)

    def refused(self, key: bytes) -> None:
        """See :meth:`gateway.intake.Intake.refused`."""
        self._intake.refused(key)

    def _home(self, offer: Offer) -> int | None:
        """None: of a device that is not known (any more); the intake says so."""
        try:
            assignment = self._ward.assignment(offer.endpoint.device)
        except Exception:
            return None  # a bug, which the intake meets for this offer alone
        return None if assignment is None else home(assignment.pseudonym, self._place.count)

    # -- what other workers want

    def _asked(self, link: Link, asked: Asked) -> None:
        offers = asked.offers
        refused: dict[int, OutboxFull] = {}
        if self.refusing is not None:
            away = OutboxFull(self.refusing, RETRY_AFTER_STOP_S)
            refused = dict.fromkeys(range(len(offers)), away)
        elif not all(self._is_mine(offer) for offer in offers):
            # The other worker may have seen a change of the roster before this one did.
            try:
                self._refresh()
            except Exception:
                _log.exception("the rosters were not looked at because of a bug")
            differ = OutboxFull("the roster has just changed", _RETRY_ROSTER_S)
            refused = {
                place: differ
                for place, offer in enumerate(offers)
                if self._home(offer) is not None and not self._is_mine(offer)
            }
        taken = [offer for place, offer in enumerate(offers) if place not in refused]
        rest = iter(self._intake.admit(taken, now=asked.now, wall=asked.wall))
        outcomes = [refused.get(place) or next(rest) for place in range(len(offers))]
        tally(self.counts, outcomes)
        link.tell(
            [
                Told(asked.number, place, self._result(outcome))
                for place, outcome in enumerate(outcomes)
                if not isinstance(outcome, Admitted)
            ]
        )
        self._store(link, asked.number, outcomes)

    def _is_mine(self, offer: Offer) -> bool:
        return self._home(offer) == self._place.number

    def _result(self, outcome: Repeated | Exception) -> Result:
        result = wire.as_result(outcome)
        if result is not None:
            return result
        self.counts["bug"] += 1
        _log.error("a message was dropped because of a bug in the gateway", exc_info=outcome)  # type: ignore[arg-type]
        return Repeated(stored=False)

    def _store(self, link: Link, number: int, outcomes: Sequence[Outcome]) -> None:
        try:
            for lane in Lane:
                admitted = [
                    (place, one)
                    for place, one in enumerate(outcomes)
                    if isinstance(one, Admitted) and one.entry.lane is lane
                ]
                if admitted:
                    self._writer.submit(
                        [one.entry for _, one in admitted],
                        [one.envelope for _, one in admitted if one.envelope is not None],
                        Owed(link, number, [(place, one.entry.key) for place, one in admitted]),
                    )
        except OutboxError as error:
            # The writer has failed and the process is about to end: no answer, no loss.
            _log.critical("the outbox takes nothing any more: %s", error)

    # -- what the writer calls

    def committed(self, tokens: list[object]) -> list[object]:
        """These are on disk: tell the other workers. Returns the tokens that are not theirs."""
        return self._told(tokens, Repeated(stored=True), self._intake.stored)

    def turned_away(self, tokens: list[object], error: OutboxFull) -> list[object]:
        """The disk has no room for these: tell the other workers. Returns those not theirs."""
        return self._told(tokens, error, self._intake.refused)

    def _told(
        self, tokens: list[object], result: Result, become: Callable[[bytes], None]
    ) -> list[object]:
        others: list[object] = []
        results: defaultdict[Link, list[Told]] = defaultdict(list)
        for token in tokens:
            if not isinstance(token, Owed):
                others.append(token)
                continue
            for place, key in token.places:
                if key is not None:
                    become(key)
                results[token.link].append(Told(token.number, place, result))
        for link, told in results.items():
            link.tell(told)
        return others
