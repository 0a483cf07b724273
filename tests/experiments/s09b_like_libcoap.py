"""What is taken, rejected or ignored, beside libcoap's server, datagram by datagram."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING
from unittest.mock import patch

from gateway.coap import message as wire
from gateway.coap import options
from gateway.coap.fastlane import claim
from gateway.coap.message import Message
from gateway.coap.numbers import OPTIONS, Code, Option, Type, is_critical, is_request
from gateway.endpoint import Endpoint
from gateway.errors import PeerError
from gateway.ingress.guard import Answer, Config, Dispatch, Guard
from tests.acceptance.ward import until
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import described
from tests.experiments.rigs.mutation import mutated

if TYPE_CHECKING:
    from tests.experiments.rigs.hostile import Faults

_SERVER = "coap-server-openssl"
_PATIENCE_S = 5.0
_SUGGESTED = 1152
_POLL_S = 0.1
_BARRIER = b"barrier"
"""Nothing is there: 4.04, at once."""
_MIDS = 0xF000
"""Of the messages; those of barriers are above."""

TAKEN, REJECTED = "taken", "rejected"
"""Any answer but 4.02; and that one, a Reset, or silence: which, RFC 7252 leaves open often."""


class _Idle:
    """An implementation with nothing in hand."""

    def next_message_id(self) -> int:
        return 1

    def in_hand(self, endpoint: Endpoint) -> int:
        return 0

    def is_token_taken(self, endpoint: Endpoint, token: bytes) -> bool:
        return False


class _Ours:
    """The decision of both lanes, without what the resources make of it."""

    def __init__(self) -> None:
        self._guard = Guard(Config(rate_per_s=0.0), _Idle())
        self._association = 0

    def says(self, datagram: bytes) -> str:
        self._association += 1  # each message is its association's first
        if claim(datagram) is not None:
            return TAKEN
        verdict = self._guard.judge(Endpoint(self._association, "d"), datagram, 0.0)
        if isinstance(verdict, Answer):
            return _kind(wire.decode_untrusted(verdict.datagram))
        if isinstance(verdict, Dispatch) and is_request(verdict.message.code):
            return TAKEN
        return REJECTED


def _kind(answer: Message) -> str:
    return REJECTED if answer.type is Type.RST or answer.code == Code.BAD_OPTION else TAKEN


class _Libcoap:
    """A running server and a socket of ours."""

    def __init__(self) -> None:
        self._barriers = itertools.cycle(range(_MIDS, 0x10000))
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self.deaths = -1
        """How often it crashed or fell silent, and was started again."""
        self._start()

    def _start(self) -> None:
        self.close()
        self.deaths += 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._address = free.getsockname()
        self._process = subprocess.Popen(
            [_SERVER, "-A", "127.0.0.1", "-p", str(self._address[1]), "-v", "0", "-d", "10"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens)
        self.renew()

    def _listens(self) -> bool:
        self.renew(_POLL_S)
        try:
            return self._react(b"\x70\0\0\0") == REJECTED
        except OSError:
            return False

    def renew(self, patience_s: float = _PATIENCE_S) -> None:
        """Another socket: for the server a peer that it has never heard of."""
        if self._socket is not None:
            self._socket.close()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(patience_s)
        self._socket.connect(self._address)

    def says(self, datagram: bytes) -> str | None:
        """Its reaction; None when it does not survive the message."""
        try:
            return self._react(datagram)
        except OSError:
            self._start()
            return None

    def _react(self, datagram: bytes) -> str:
        """What comes before the answer to the next request. (Not every ping is answered.)"""
        assert self._socket is not None
        self._socket.send(datagram)
        mid = next(self._barriers)
        self._socket.send(
            wire.encode(Message(Type.CON, Code.GET, mid, _BARRIER, ((11, _BARRIER),)))
        )
        said = REJECTED
        while True:
            heard = self._socket.recv(65_535)
            with contextlib.suppress(PeerError):
                answer = wire.decode_untrusted(heard)
                if (answer.mid, answer.token) == (mid, _BARRIER):
                    return said
                said = _kind(answer)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


# What may differ, and why. Anything else is a failure.


def _not_a_request(datagram: bytes) -> bool:
    """Answers to nothing and reserved codes: S-10 and S-14 judge them. libcoap acknowledges some,
    and takes a request in an Acknowledgement."""
    return len(datagram) < 2 or not is_request(datagram[1]) or datagram[0] & 0x20 != 0


def _stricter(datagram: bytes) -> bool:
    """We alone look whether texts are UTF-8 (RFC 7252 section 3.2), and count options."""
    try:
        wire.decode_untrusted(datagram)
    except PeerError as error:
        return "UTF-8" in str(error) or "options" in str(error)
    return False


def _known_to_libcoap_only(datagram: bytes) -> bool:
    """If-Match and If-None-Match, which nothing here acts on: 4.02 (section 5.4.1)."""
    return any(number in (Option.IF_MATCH, Option.IF_NONE_MATCH) for number, _ in _read(datagram))


def _surplus(datagram: bytes) -> bool:
    """A single option that is there again is not recognised (section 5.4.5); libcoap looks at the
    first only."""
    numbers = [number for number, _ in _read(datagram)]
    return any(
        not OPTIONS[number].repeatable and numbers.count(number) > 1
        for number in numbers
        if number in OPTIONS
    )


def _wrong_length(datagram: bytes) -> bool:
    """An elective option of a wrong length is left out (section 5.4.3); libcoap takes it for a
    format error."""
    return any(
        not is_critical(number)
        and not OPTIONS[number].shortest <= len(value) <= OPTIONS[number].longest
        for number, value in _read(datagram)
        if number in OPTIONS
    )


def _long(datagram: bytes) -> bool:
    """libcoap takes 1,152 bytes, the suggestion of section 4.6; we take 1,280."""
    return len(datagram) > _SUGGESTED


def _empty_query(datagram: bytes) -> bool:
    """Uri-Query may be empty (section 5.10, Table 4); libcoap 4.3.1 takes it for an error."""
    return (Option.URI_QUERY, b"") in _read(datagram)


def _wants_no_answer(datagram: bytes) -> bool:
    """No-Response: what is suppressed depends on the code, and so on the resources."""
    return any(number == Option.NO_RESPONSE for number, _ in _read(datagram))


_MAY_DIFFER = (
    _not_a_request,
    _stricter,
    _known_to_libcoap_only,
    _surplus,
    _wrong_length,
    _long,
    _empty_query,
    _wants_no_answer,
)


def _read(datagram: bytes) -> options.Options:
    try:
        return wire.decode_untrusted(datagram).options
    except PeerError:
        return ()


def _run(run: Run) -> Found:
    chance = random.Random(run.seed)
    failures = []
    agreed = allowed = 0
    ours = _Ours()
    with (
        _FAULTS[run.fault][1]() if run.fault else contextlib.nullcontext(),
        contextlib.closing(_Libcoap()) as theirs,
    ):
        for done in range(run.runs):
            datagram = mutated(chance, done % _MIDS)
            if not datagram:
                continue
            one, other = ours.says(datagram), theirs.says(datagram)
            if other not in (one, None):
                theirs.renew()  # its table of repetitions and observations might have spoken
                other = theirs.says(datagram)
            if other == one:
                agreed += 1
            elif other is None or any(may_differ(datagram) for may_differ in _MAY_DIFFER):
                allowed += 1
            else:
                failures.append(f"{datagram.hex()}: {one}, libcoap: {other}")
            run.progress(done + 1)
        figures = {"the same": agreed, "allowed to differ": allowed, "libcoap died": theirs.deaths}
    return Found(failures, figures)


_FAULTS: Faults = {
    "obliging": (
        "unknown critical options are not refused",
        lambda: patch.object(
            options, "accept", lambda found, understood: options.Accepted(found, None)
        ),
    ),
}

register(
    Experiment(
        id="S-09b",
        name="like-libcoap",
        target="mutated requests are taken and rejected as by libcoap, but for named cases",
        unit="messages",
        short=1_000,
        long=100_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=400,
        needs=lambda: None if shutil.which(_SERVER) else f"{_SERVER} (Debian: libcoap3-bin)",
    )
)
