"""Answers to claimed messages: made, remembered for repetitions, protected, sent together."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from gateway.coap import fastlane
from gateway.coap.numbers import Code
from gateway.coap.refusal import refusal
from gateway.errors import DtlsError, OutboxFull, PeerError, SealError, TooManyRequestsError
from gateway.ingress.rate import REFUSALS_PER_S, Rates
from gateway.intake import Repeated

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.coap.exchanges import Exchanges
    from gateway.coap.fastlane import Telemetry
    from gateway.dtls.association import Association, Path
    from gateway.dtls.server import Server

_log = logging.getLogger("ingress")


class Answers:
    """send: puts datagrams on the wire, all of a burst at once."""

    def __init__(
        self,
        exchanges: Exchanges,
        server: Server,
        send: Callable[[list[tuple[bytes, Path]]], None],
    ) -> None:
        self._exchanges = exchanges
        self._server = server
        self._send = send
        self._refusals = Rates(REFUSALS_PER_S)
        self._outgoing: list[tuple[bytes, Path]] = []
        self.next_message_id: Callable[[], int] | None = None
        """Of the other lane, the only one that mints them: for answers to Non-confirmables."""
        self.counts: Counter[str] = Counter()
        """Messages by what became of them."""

    def changed(self, association: Association, telemetry: Telemetry, now: float) -> None:
        """2.04: it is on disk."""
        answer = fastlane.answer(telemetry, Code.CHANGED, mid=self._mid(telemetry))
        self._answer(association, telemetry, answer, now)

    def not_admitted(
        self,
        association: Association,
        telemetry: Telemetry,
        outcome: Repeated | Exception,
        now: float,
    ) -> None:
        """Answer what is not going to be stored."""
        if isinstance(outcome, TooManyRequestsError):
            self._too_fast(association, telemetry, outcome, now)
            return
        mid = self._mid(telemetry)
        if isinstance(outcome, (PeerError, OutboxFull)):
            answer = fastlane.answer(telemetry, mid=mid, **refusal(outcome)._asdict())
        elif isinstance(outcome, Repeated) and outcome.stored:
            answer = fastlane.answer(telemetry, Code.CHANGED, mid=mid)
        elif isinstance(outcome, SealError):
            _log.error("a record cannot be sealed: %s", outcome)
            answer = fastlane.answer(telemetry, Code.INTERNAL_SERVER_ERROR, mid=mid)
        else:
            # Being stored, or a bug: no answer, and the repetition will be a new attempt.
            self._exchanges.forget(association.endpoint.association, telemetry.mid)
            if isinstance(outcome, Exception):
                self.bug(outcome)
            return
        self._answer(association, telemetry, answer, now)

    def _too_fast(
        self,
        association: Association,
        telemetry: Telemetry,
        error: TooManyRequestsError,
        now: float,
    ) -> None:
        # Not worth a place among the remembered: its repetition may find a token.
        self._exchanges.forget(association.endpoint.association, telemetry.mid)
        if not self._refusals.over(association.endpoint.device, now):
            mid = self._mid(telemetry)
            answer = fastlane.answer(telemetry, mid=mid, **refusal(error)._asdict())
            self.protected(association, answer)

    def bug(self, error: Exception) -> None:
        """What raised costs its datagram and one line."""
        self.counts["bug"] += 1
        _log.error("a datagram was dropped because of a bug in the gateway", exc_info=error)

    def _answer(
        self, association: Association, telemetry: Telemetry, answer: bytes, now: float
    ) -> None:
        self._exchanges.finish(association.endpoint.association, telemetry.mid, answer, now)
        self.protected(association, answer)

    def protected(self, association: Association, plaintext: bytes) -> None:
        """For the next flush; a peer that cannot be sent to must not cost the others theirs."""
        if not plaintext or association.closed:
            return
        try:
            self._outgoing.append((association.protect(plaintext), association.path))
        except DtlsError as error:
            self._server.end(association, str(error))  # the node will shake hands again

    def flush(self) -> None:
        """Send what has come together, and what the DTLS layer itself wants sent."""
        outgoing = self._outgoing
        if self._server.outgoing:
            outgoing += self._server.outgoing
            self._server.outgoing.clear()
        if outgoing:
            self._outgoing = []
            self._send(outgoing)

    def _mid(self, telemetry: Telemetry) -> int | None:
        if telemetry.confirmable or self.next_message_id is None:
            return None
        return self.next_message_id()
