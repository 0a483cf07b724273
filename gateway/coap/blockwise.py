"""Request bodies that come in blocks, put together again (RFC 7959 section 2.5).

Bounds: a body of MAX_BODY bytes, one assembly a peer, a number of them in all, an expiry; and time
linear in the body. Blocks are taken in their order only. A block that is there already with the
same bytes is a repetition under a new Message ID and changes nothing; a gap, or other bytes in the
same place, ends the assembly with 4.08.

What belongs together: same association, method, and options less Block1, Block2, Observe and those
that do not count for a cache (section 2.5 and RFC 9175 section 3.3: Request-Tag does count). So a
Content-Format that changes between blocks is another body, whose beginning is missing: 4.08.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.coap.numbers import MAX_TRANSMIT_WAIT, Option, is_no_cache_key
from gateway.coap.options import Block, decode_block_untrusted
from gateway.errors import BadRequestError, IncompleteError, PeerError, TooLargeError

if TYPE_CHECKING:
    from gateway.coap.message import Message
    from gateway.coap.options import Options

MAX_BODY: Final = 8192
"""Bytes: what the largest telemetry payload may have, and Californium's default."""

LIFETIME: Final = MAX_TRANSMIT_WAIT
"""Seconds after its last block: the longest that a client goes on repeating the next one. The
EXCHANGE_LIFETIME that RFC 7959 section 2.5 allows would let a few silent peers hold all places."""

_NOT_IN_KEY: Final = frozenset((Option.BLOCK1, Option.BLOCK2, Option.OBSERVE))


class TransfersFullError(PeerError):
    """5.03 with Max-Age: others hold all places for bodies under way."""

    kind = "transfers_full"
    response_code = 0xA3
    retry_after_s = LIFETIME


@dataclass(slots=True)
class _Assembly:
    key: tuple[int, Options]
    expires: float
    body: bytearray = field(default_factory=bytearray)


class Assemblies:
    """The bodies under way. cap: in all; one for each association."""

    def __init__(self, cap: int = 256) -> None:
        self._cap = cap
        self._by_association: dict[int, _Assembly] = {}

    def take_untrusted(self, association: int, request: Message, now: float) -> bytes | None:
        """Add a request's block; the body when this was its last, None when more are to come.

        Call it for requests with a Block1 option whose options have been accepted.

        Raises:
            BadRequestError: reserved size, or a block that is not as long as it says.
            IncompleteError: a block before this one is missing, or has other bytes.
            TooLargeError: the body is longer than MAX_BODY, or says that it will be.
            TransfersFullError: ``cap`` bodies of other peers are under way.
        """
        block = decode_block_untrusted(request.value(Option.BLOCK1) or b"")
        payload = request.payload
        if len(payload) > block.size or (block.more and len(payload) != block.size):
            self.drop(association)
            raise BadRequestError("the payload does not have the size of its block")
        announced = request.uint(Option.SIZE1) or 0
        if max(announced, block.start + len(payload)) > MAX_BODY:
            self.drop(association)
            raise TooLargeError(f"a body has at most {MAX_BODY} bytes", MAX_BODY)
        assembly = self._open(association, request, block, now)
        self._append(association, assembly, block, payload)
        if block.more:
            assembly.expires = now + LIFETIME
            return None
        self.drop(association)
        return bytes(assembly.body)

    def _open(self, association: int, request: Message, block: Block, now: float) -> _Assembly:
        key = _key(request)
        assembly = self._by_association.get(association)
        if assembly is not None and (assembly.expires <= now or assembly.key != key):
            assembly = None
        if block.number == 0:
            # Whatever was there is overwritten (RFC 7959 section 2.5).
            assembly = _Assembly(key, now + LIFETIME)
            if block.more:
                if association not in self._by_association and len(self) >= self._cap:
                    self.sweep(now)
                    if len(self) >= self._cap:
                        raise TransfersFullError("too many block-wise transfers at once")
                self._by_association[association] = assembly
        if assembly is None:
            self.drop(association)
            raise IncompleteError("the blocks before this one are not here")
        return assembly

    def _append(self, association: int, assembly: _Assembly, block: Block, payload: bytes) -> None:
        body = assembly.body
        if block.start == len(body):
            body += payload
        elif not block.more or body[block.start : block.start + len(payload)] != payload:
            self.drop(association)
            raise IncompleteError("a block is missing or comes twice with other bytes")

    def drop(self, association: int) -> None:
        """The association has ended, or its body is done with."""
        self._by_association.pop(association, None)

    def sweep(self, now: float) -> None:
        """Forget what nobody goes on with."""
        expired = [a for a, one in self._by_association.items() if one.expires <= now]
        for association in expired:
            del self._by_association[association]

    def __len__(self) -> int:
        return len(self._by_association)


def _key(request: Message) -> tuple[int, Options]:
    return request.code, tuple(
        option
        for option in request.options
        if option[0] not in _NOT_IN_KEY and not is_no_cache_key(option[0])
    )
