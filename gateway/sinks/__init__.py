"""Where delivered records go: the port, and the registry of those that exist."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gateway.errors import TransientDeliveryError
from gateway.registry import Registry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.lane import Lane
    from gateway.outbox.entry import Entry


class Verdict(StrEnum):
    """What a sink says of one entry."""

    DELIVERED = "delivered"
    """Durable at the sink, now or already before."""

    REFUSED = "refused"
    """Never. Repeating cannot help."""

    RETRY = "retry"
    """Not now."""


class Outcome(NamedTuple):
    """The sink's answer to one entry."""

    verdict: Verdict
    reason: str = ""
    """The sink's own words, empty when delivered."""


class Identity(NamedTuple):
    """Who the gateway is towards a sink."""

    gateway: str
    """The name (CN) in its certificate."""

    signing_key: ec.EllipticCurvePrivateKey
    ssl: ssl.SSLContext | None
    """Client context with the gateway's certificate; None only for plain http in tests."""


class BatchTooLargeError(TransientDeliveryError):
    """The sink takes less at a time (HTTP 413)."""

    kind = "batch_too_large"


class MissingEnvelopesError(TransientDeliveryError):
    """The sink lacks envelopes that the batch needs: send them, then the batch again."""

    kind = "missing_envelopes"

    def __init__(self, message: str, epochs: Sequence[bytes]) -> None:
        super().__init__(message)
        self.epochs = tuple(epochs)


class NotWelcomeError(TransientDeliveryError):
    """The sink does not accept who we are (HTTP 401, 403; a TLS certificate). Not the records'
    fault: they wait, and the operator is told."""

    kind = "not_welcome"


class SinkFaultError(TransientDeliveryError):
    """The sink broke over this batch (HTTP 500, an answer that makes no sense): perhaps over one
    record of it."""

    kind = "sink_fault"


class Sink(Protocol):
    """One connection to one destination, for one lane: lanes share nothing."""

    @property
    def Config(self) -> type[Any]:  # noqa: N802
        """Frozen dataclass of the sink's own settings: a class in the class."""

    def __init__(self, config: Any, lane: Lane, identity: Identity) -> None:  # noqa: ANN401
        """``config``: an instance of ``Config``. Making a sink has no side effect."""

    async def open(self) -> None:
        """Get ready. Does not need the destination to be there."""

    async def check(self) -> None:
        """Raises DeliveryError if the destination would not take a batch now."""

    async def deliver_envelope(self, epoch: bytes, message: bytes) -> None:
        """Raises DeliveryError; PermanentDeliveryError if this envelope is refused for good."""

    async def deliver(self, batch: Sequence[Entry]) -> list[Outcome]:
        """One outcome for each entry, in order.

        Raises:
            TransientDeliveryError: nothing is known to be delivered.
            PermanentDeliveryError: the batch as a whole is refused; one of it may be the cause.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection."""


sinks: Registry[type[Sink]] = Registry("sink")
