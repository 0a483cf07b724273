"""One burst of datagrams, from plaintexts to submitted entries, and the answers after the commit.

The shell around the pure rooms: it holds no rule of any protocol. The hot path makes no task,
future or timer for a message. Its order is the product's promise: an answer that says 2.04 is made
in :meth:`Driver.committed` and nowhere else, after the transaction is on disk.

One datagram that raises costs that datagram and one log line, never the burst.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from gateway.coap import fastlane
from gateway.coap.exchanges import InProgress, Replay
from gateway.coap.numbers import EXCHANGE_LIFETIME, NON_LIFETIME
from gateway.dtls.server import Change
from gateway.errors import OutboxError, OutboxFull, TooManyRequestsError
from gateway.ingress.answers import Answers
from gateway.ingress.backlog import Backlog
from gateway.ingress.batch import RETRY_AFTER_STOP_S, Batch, Handed, Waiting, tally
from gateway.ingress.refusals import Refusals
from gateway.intake import Admitted, Offer, Repeated
from gateway.lane import Lane
from gateway.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.clock import Clock
    from gateway.coap.exchanges import Exchanges
    from gateway.coap.fastlane import Kind, Telemetry
    from gateway.dtls.association import Association, Path
    from gateway.dtls.server import Server
    from gateway.endpoint import Endpoint
    from gateway.ingress.aiocoap_lane import AiocoapLane
    from gateway.ingress.batch import Admitting
    from gateway.ingress.rate import Rates
    from gateway.intake import Outcome
    from gateway.outbox.writer import Writer

_log = logging.getLogger("ingress")

_RETRY_BEING_STORED_S: Final = 1.0
"""Max-Age of 5.03 for a message whose first copy is still on its way to the disk."""

_PORTION: Final = 64
_WORK_S: Final = 0.002
"""How long what waits is taken in before the sockets, the deliveries and the timers have a turn. An
upload needs some turns, and is to start within 100 ms also when there is always more to do."""

_new = tuple.__new__  # see gateway.intake


class Driver:
    """Joins sockets, associations, both lanes of ingress, intake and outbox.

    Give it what came with :meth:`receive`, tell it of commits with :meth:`committed`.

    send: puts datagrams on the wire, all of a burst at once. keep, forget: told of the peers that
    have an association, and have none any more. later: calls back after everybody
    else who is ready (``loop.call_soon``).
    """

    def __init__(
        self,
        *,
        server: Server,
        exchanges: Exchanges,
        intake: Admitting,
        writer: Writer,
        rates: Rates,
        emergency_rates: Rates,
        clock: Clock,
        send: Callable[[list[tuple[bytes, Path]]], None],
        keep: Callable[[Path], None],
        forget: Callable[[Path], None],
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._server = server
        self._exchanges = exchanges
        self._intake = intake
        self._writer = writer
        self._rates = rates
        self._emergency_rates = emergency_rates
        self._clock = clock
        self._keep, self._forget = keep, forget
        self._later = later
        self._answers = Answers(exchanges, server, send)
        self._backlog = Backlog()
        self._refusals = Refusals(server)
        self._called_later = False
        self._associations: dict[int, Association] = {}
        self._lane: AiocoapLane | None = None
        self.refusing: str | None = None
        """While stopping: why nothing new is taken (5.03)."""
        self.counts = self._answers.counts

    def connect(self, lane: AiocoapLane) -> None:
        """The lane for what the fast lane does not claim; made later, because it sends here."""
        self._lane = lane
        self._answers.next_message_id = lane.next_message_id

    # -- in

    def receive(self, burst: list[tuple[bytes, Path]], now: float, wall: float) -> None:
        """Everything that one wake-up of a socket brought. Never raises.

        Stage by stage for the whole burst; see :meth:`gateway.intake.Intake.admit` for why.
        """
        opened: list[tuple[Association, bytes]] = []
        for datagram, path in burst:
            try:
                received = self._server.receive(datagram, path, now)
            except Exception as error:
                self._answers.bug(error)
                continue
            if received is not None:
                association, plaintexts = received
                opened += [(association, plaintext) for plaintext in plaintexts]
        if self._server.events:
            self._tell()
        urgent: list[tuple[Association, Telemetry]] = []
        for association, plaintext in opened:
            try:
                telemetry = fastlane.claim(plaintext)
                if telemetry is None:
                    # One that said goodbye in the same burst is told to the lane already.
                    if self._lane is not None and not association.closed:
                        self._lane.receive(association.endpoint, plaintext, now)
                elif self._is_new(association, telemetry, plaintext, now):
                    if telemetry.kind in fastlane.DECLARED:
                        urgent.append((association, telemetry))
                    elif not self._backlog.put(association, telemetry):
                        self._exchanges.forget(association.endpoint.association, telemetry.mid)
                        self.counts["shed"] += 1
            except Exception as error:
                self._answers.bug(error)
        if urgent:
            self._take_in(urgent, now, wall)
        if self._called_later:
            self._flush()
        else:
            self._work()

    def _work(self) -> None:
        """Take in what waits, for a while; the rest after everybody else's turn."""
        self._called_later = False
        until = 0.0
        while self._backlog:
            now = self._clock.monotonic()
            if not until:
                until = now + _WORK_S
            elif now > until:
                self._called_later = True
                self._later(self._work)
                break
            self._take_in(self._backlog.take(_PORTION), now, self._clock.wall())
        self._flush()

    def _take_in(self, asked: list[tuple[Association, Telemetry]], now: float, wall: float) -> None:
        """Admit these and submit them to the outbox, or answer what is refused."""
        offers = [
            _new(Offer, (association.endpoint, telemetry[3], telemetry[4], telemetry[5]))
            for association, telemetry in asked
        ]
        batches = {lane: Batch() for lane in Lane}
        for (association, telemetry), outcome in zip(
            asked, self._admit(offers, now, wall), strict=True
        ):
            if isinstance(outcome, Admitted):
                entry = outcome.entry
                waiting = _new(Waiting, (entry.key, association, telemetry, None))
                batches[entry.lane].add(outcome, waiting)
                continue
            if isinstance(outcome, Handed):
                outcome.waiting = Waiting(None, association, telemetry, None)
                continue
            try:
                self._answers.not_admitted(association, telemetry, outcome, now)
            except Exception as error:
                self._answers.bug(error)
        try:
            for batch in batches.values():
                self._submit(batch)
        except OutboxError as error:
            # The writer has failed and the process is about to end: no answer, no loss.
            _log.critical("the outbox takes nothing any more: %s", error)

    def _is_new(
        self, association: Association, telemetry: Telemetry, plaintext: bytes, now: float
    ) -> bool:
        """Whether this is not a repetition; one that was answered gets the same bytes again."""
        number, mid = association.endpoint.association, telemetry.mid
        lifetime = EXCHANGE_LIFETIME if telemetry.confirmable else NON_LIFETIME
        seen = self._exchanges.begin(number, mid, hash(plaintext), now, lifetime)
        if isinstance(seen, Replay):
            self.counts["replayed"] += 1
            self._answers.protected(association, seen.answer)
            return False
        if isinstance(seen, InProgress):
            self.counts["in_progress"] += 1
            return False
        return True

    def _admit(
        self, offers: Sequence[Offer], now: float, wall: float
    ) -> Sequence[Outcome | Handed]:
        """What both lanes do with payloads, and what is counted of it."""
        outcomes: Sequence[Outcome | Handed]
        refused: dict[int, Exception] = {}
        for place, (endpoint, kind, _, _) in enumerate(offers):
            # A declared emergency has a bucket of its own: limited, but never to zero by routine.
            rates = self._emergency_rates if kind in fastlane.DECLARED else self._rates
            if self.refusing is not None:
                refused[place] = OutboxFull(self.refusing, RETRY_AFTER_STOP_S)
            elif rates.over(endpoint.device, now):
                refused[place] = TooManyRequestsError("too many messages a second", rates.wait_s)
        if refused:
            taken = [offer for place, offer in enumerate(offers) if place not in refused]
            rest = iter(self._intake.admit(taken, now=now, wall=wall))
            outcomes = [refused.get(place) or next(rest) for place in range(len(offers))]
        else:
            outcomes = self._intake.admit(offers, now=now, wall=wall)
        tally(self.counts, outcomes)
        return outcomes

    async def admit(
        self, endpoint: Endpoint, kind: Kind, content_format: int, payload: bytes
    ) -> None:
        """The way in for the aiocoap lane: returns when the record is on disk.

        Raises PeerError, OutboxFull or SealError; the lane makes the answer.
        """
        offer = Offer(endpoint, kind, content_format, payload)
        (outcome,) = self._admit([offer], self._clock.monotonic(), self._clock.wall())
        stored = asyncio.get_running_loop().create_future()
        if isinstance(outcome, Handed):
            outcome.waiting = Waiting(None, None, None, stored)
            outcome = await stored
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Repeated):
            if not outcome.stored:
                raise OutboxFull("this message is being stored; ask again", _RETRY_BEING_STORED_S)
            return
        batch = Batch()
        batch.add(outcome, Waiting(outcome.entry.key, None, None, stored))
        self._submit(batch)
        await stored

    def _submit(self, batch: Batch) -> None:
        if batch.entries:
            self._writer.submit(batch.entries, batch.envelopes, batch.waiting)

    # -- out

    def committed(self, batches: list[object]) -> None:
        """These are on disk: answer. Called by the writer, once for each commit."""
        now = self._clock.monotonic()
        for batch in batches:
            for key, association, telemetry, stored in cast("list[Waiting]", batch):
                if key is not None:
                    self._intake.stored(key)
                if association is not None and telemetry is not None:
                    self._answers.changed(association, telemetry, now)
                elif stored is not None and not stored.done():
                    stored.set_result(None)
        self._flush()

    def refused(self, batches: list[object], error: OutboxFull) -> None:
        """The disk has no room for these. Called by the writer instead of :meth:`committed`."""
        waiting = [one for batch in batches for one in cast("list[Waiting]", batch)]
        for one in waiting:
            if one.key is not None:
                self._intake.refused(one.key)
        self.counts[error.kind] += len(waiting)
        self.told([(one, error) for one in waiting])

    def told(self, results: Sequence[tuple[Waiting, Repeated | Exception]]) -> None:
        """What became elsewhere of offers that were handed on: answer."""
        now = self._clock.monotonic()
        for (_, association, telemetry, stored), outcome in results:
            try:
                if association is not None and telemetry is not None:
                    self._answers.not_admitted(association, telemetry, outcome, now)
                elif stored is not None and not stored.done():
                    stored.set_result(outcome)
            except Exception as error:
                self._answers.bug(error)
        self._flush()

    def send(self, endpoint: Endpoint, plaintext: bytes) -> None:
        """The way out for the aiocoap lane. Nothing happens if the association has gone."""
        association = self._associations.get(endpoint.association)
        if association is not None:
            self._answers.protected(association, plaintext)
            self._flush()

    def sweep(self, now: float) -> None:
        """Timers of everything below. Call about every quarter of a second."""
        self._server.sweep(now)
        self._exchanges.sweep(now)
        if self._lane is not None:
            self._lane.sweep(now)
        self._flush()
        self._refusals.sweep(now)
        log.tell_left_out()

    def _flush(self) -> None:
        self._answers.flush()
        self._tell()

    def _tell(self) -> None:
        """What has become of associations."""
        events = self._server.events
        while events:
            change, association, why = events.popleft()
            endpoint = association.endpoint
            if change is Change.OPENED:
                self._associations[endpoint.association] = association
                self._keep(association.path)
                _log.info("association opened by %s, suite %s", endpoint.device, why)
            else:
                self._associations.pop(endpoint.association, None)
                self._forget(association.path)
                try:
                    if self._lane is not None:
                        self._lane.closed(endpoint)
                except Exception as error:
                    self._answers.bug(error)
                _log.info("association of %s closed: %s", endpoint.device, why)
