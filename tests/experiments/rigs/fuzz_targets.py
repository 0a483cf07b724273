"""Every function that reads a peer's bytes, as something to be fed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.coap import blockwise, fastlane, message, options
from gateway.coap.numbers import Option
from gateway.dtls import cookie, records
from gateway.errors import PeerError
from gateway.senml.pack import decode_resolved_untrusted, resolve_untrusted
from gateway.senml.senml_cbor import encode_cbor
from tests.experiments.rigs.mutation import PACKS, seeds
from tests.property.cose.test_untrusted import READERS
from tests.property.dtls.test_untrusted import FLIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CORPUS = Path(__file__).parents[2] / "data" / "corpus"
"""TARGET/NAME: inputs that are kept, because they were found to break something once."""

_WALL = 1_790_000_000.0
_SEPARATOR = b"\xff\xff"


class Target(NamedTuple):
    """``feed`` raises exactly if something is wrong."""

    feed: Callable[[bytes], None]
    seeds: Sequence[bytes]


def _reads(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """PeerError is how a peer's bytes are refused."""

    def feed(data: bytes) -> None:
        with contextlib.suppress(PeerError):
            read(data)

    return feed


def _message(data: bytes) -> None:
    """What is read is written as it was."""
    with contextlib.suppress(PeerError):
        assert message.encode(message.decode_untrusted(data)) == data


def _claim(data: bytes) -> None:
    """What is claimed the strict decoder reads alike."""
    claimed = fastlane.claim(data)
    if claimed is not None:
        read = message.decode_untrusted(data)
        assert (claimed.mid, claimed.token, claimed.payload) == (read.mid, read.token, read.payload)
        fastlane.answer(claimed, 0x80, mid=1, max_age=1, size1=1, diagnostic="x")


def _blocks(data: bytes) -> None:
    """Messages of two peers, one after another."""
    assemblies = blockwise.Assemblies(cap=1)
    for place, part in enumerate(data.split(_SEPARATOR)[:8]):
        with contextlib.suppress(PeerError):
            request = message.decode_untrusted(part)
            accepted = options.accept(request.options, frozenset(Option))
            request = request._replace(options=accepted.options)
            if request.value(Option.BLOCK1) is not None:
                assemblies.take_untrusted(place & 1, request, float(place))
        assert len(assemblies) <= 1


def _pack(content_format: int) -> Callable[[bytes], None]:
    """What is taken can be written and read again; twice, for the way of known shapes too."""

    def feed(data: bytes) -> None:
        with contextlib.suppress(PeerError):
            for _ in range(2):
                pack = resolve_untrusted(data, content_format, device="d", wall=_WALL)
                assert decode_resolved_untrusted(encode_cbor(pack.records)) == pack.records

    return feed


_MESSAGES = seeds()

TARGETS: dict[str, Target] = {
    "options": Target(
        _reads(lambda data: options.decode_untrusted(data, 0)), [one[4:] for one in _MESSAGES]
    ),
    "message": Target(_message, _MESSAGES),
    "claim": Target(_claim, _MESSAGES),
    "blocks": Target(_blocks, [_SEPARATOR.join(_MESSAGES[-30:])[:1000], *_MESSAGES]),
    "senml-cbor": Target(_pack(112), PACKS[:2]),
    "senml-json": Target(_pack(110), PACKS[2:]),
    "resolved": Target(_reads(decode_resolved_untrusted), PACKS[:2]),
    "records": Target(
        _reads(lambda data: [len(one) for one in records.split_untrusted(data)]), FLIGHTS
    ),
    "hello": Target(_reads(cookie.decode_client_hello_untrusted), FLIGHTS),
    "opener": Target(
        _reads(
            lambda data: records.Opener("PSK-AES128-CCM8", b"k" * 16, b"salt").open_untrusted(data)
        ),
        FLIGHTS,
    ),
    **{
        f"cose-{name.replace(' ', '-')}": Target(_reads(read), [original])
        for name, (read, original) in READERS.items()
    },
}
