"""Every error of the product, in one tree.

Blame is a type, the answer is an attribute: whoever catches at a border (driver, aiocoap lane,
pump, command line) reads the answer off the class and decides nothing. A function whose name
ends in ``_untrusted`` reads bytes from a peer and raises :class:`PeerError` only.
"""

from __future__ import annotations

from typing import ClassVar, Self


class GatewayError(Exception):
    """Base of all. Not raised itself."""

    kind: ClassVar[str] = "error"
    """Short and stable, for metrics and logs."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """A class that only groups others blames nobody: raising it would be a bug."""
        if cls in (GatewayError, PeerError, DeliveryError):
            raise TypeError(f"{cls.__name__} is a base class: raise one of its kinds")
        return super().__new__(cls, *args)


class ConfigError(GatewayError):
    """A configuration, or a file that it names, cannot be used. Printed; exit code 78."""

    kind = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UsageError(GatewayError):
    """A command cannot be carried out as typed. Printed; exit code 1."""

    kind = "usage"


class PeerError(GatewayError):
    """The peer's bytes or behaviour. Never logged with a traceback, never ends an association.
    Not raised itself."""

    kind = "peer"
    response_code: ClassVar[int] = 0x80
    """CoAP response code (RFC 7252 section 5.9): class * 32 + detail."""


class MessageFormatError(PeerError):
    """CoAP framing (RFC 7252 section 3): no answer but a Reset for a Confirmable message."""

    kind = "message_format"


class BadRequestError(PeerError):
    """4.00, the reason as diagnostic payload."""

    kind = "bad_request"


class BadOptionError(PeerError):
    """4.02, names the option (RFC 7252 section 5.4.1)."""

    kind = "bad_option"
    response_code = 0x82


class ForbiddenError(PeerError):
    """4.03: not this device's name."""

    kind = "forbidden"
    response_code = 0x83


class IncompleteError(PeerError):
    """4.08: a block is missing or out of order (RFC 7959 section 2.9.2)."""

    kind = "incomplete"
    response_code = 0x88


class TooLargeError(PeerError):
    """4.13, with Size1 (RFC 7959 section 2.9.3)."""

    kind = "too_large"
    response_code = 0x8D

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class UnsupportedContentFormatError(PeerError):
    """4.15."""

    kind = "content_format"
    response_code = 0x8F


class TooManyRequestsError(PeerError):
    """4.29, with Max-Age (RFC 8516)."""

    kind = "rate"
    response_code = 0x9D

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IntegrityError(PeerError):
    """A signature, a seal or a name in a COSE message is not what it must be."""

    kind = "integrity"


class DtlsError(PeerError):
    """A datagram that the DTLS layer refuses. No CoAP answer."""

    kind = "dtls"


class SealError(GatewayError):
    """A COSE message cannot be opened, verified or made."""

    kind = "seal"


class OutboxError(GatewayError):
    """The durable queue cannot do what was asked."""

    kind = "outbox"


class OutboxFull(OutboxError):
    """5.03 with Max-Age: no room for this lane now."""

    kind = "outbox_full"
    response_code: ClassVar[int] = 0xA3

    def __init__(self, message: str, retry_after_s: float = 60.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutboxCorrupt(OutboxError):
    """The store is damaged or the disk fails: nothing may be acknowledged, the process stops."""

    kind = "outbox_corrupt"


class DeliveryError(GatewayError):
    """A sink did not take a batch. Not raised itself."""

    kind = "delivery"


class TransientDeliveryError(DeliveryError):
    """Try again, not before ``retry_after_s`` if the sink named a time."""

    kind = "transient"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentDeliveryError(DeliveryError):
    """Repeating cannot help: a dead letter, with the sink's words."""

    kind = "permanent"
