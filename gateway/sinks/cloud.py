"""The ward's own cloud store: signed batches, verdicts by record id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.cose.record import encode_batch
from gateway.errors import PermanentDeliveryError, SealError
from gateway.lane import Lane
from gateway.sinks import Identity, Outcome, SinkFaultError, Verdict, sinks
from gateway.sinks.answers import json_untrusted, refuse_untrusted
from gateway.sinks.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.outbox.entry import Entry

_PATHS = {Lane.EMERGENCY: "/v1/alarms", Lane.ROUTINE: "/v1/records"}
_BATCH = 'application/cose; cose-type="cose-sign1"'
_DELIVERED = Outcome(Verdict.DELIVERED)
_UNMENTIONED = Outcome(Verdict.RETRY, "the answer does not mention this record")


@sinks.register("cloud")
class CloudSink:
    """Batches, alarms and envelopes over TLS, with the gateway's certificate."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """``[cloud]``."""

        url: str
        """Base address, ``https://host:port``."""

        timeout_s: float | None = None
        """Of one request. None: 5 s for emergencies, 60 s for routine batches."""

    def __init__(self, config: Config, lane: Lane, identity: Identity) -> None:
        self._path = _PATHS[lane]
        self._identity = identity
        self._transport = Transport(config.url, lane, identity.ssl, timeout_s=config.timeout_s)

    async def open(self) -> None:
        self._transport.open()

    async def check(self) -> None:
        refuse_untrusted(await self._transport.request("GET", "/v1/healthz"))

    async def deliver_envelope(self, epoch: bytes, message: bytes) -> None:
        refuse_untrusted(
            await self._transport.request("PUT", f"/v1/epochs/{epoch.hex()}", message, _BATCH)
        )

    async def deliver(self, batch: Sequence[Entry]) -> list[Outcome]:
        items = [
            ((id_, patient, lane, received_ms, epoch), sealed)
            for id_, lane, patient, received_ms, epoch, sealed, _ in batch
        ]
        try:
            body = encode_batch(self._identity.signing_key, self._identity.gateway, items)
        except SealError as error:
            raise PermanentDeliveryError(str(error)) from error
        answer = await self._transport.request("POST", self._path, body, _BATCH)
        refuse_untrusted(answer)
        verdicts = verdicts_untrusted(json_untrusted(answer.body))
        return [verdicts.get(entry[0].hex(), _UNMENTIONED) for entry in batch]

    async def close(self) -> None:
        await self._transport.close()


def verdicts_untrusted(answer: dict[str, Any]) -> dict[str, Outcome]:
    """Record id in hex -> outcome. Raises SinkFaultError for another shape."""
    try:
        verdicts = dict.fromkeys([*answer["stored"], *answer["known"]], _DELIVERED)
        for refusal in answer["refused"]:
            verdicts[refusal["id"]] = Outcome(Verdict.REFUSED, str(refusal["reason"])[:300])
    except (KeyError, TypeError) as error:
        raise SinkFaultError("an answer without stored, known and refused") from error
    return verdicts
