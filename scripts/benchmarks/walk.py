"""Walks bursts of real datagrams through the steps of the gateway's path, each by itself.

A program of its own, so that it runs with the interpreter whose gateway is measured. It calls the
rooms where the gateway calls them, burst by burst as the driver does: what a step leaves in the
caches is what the next one finds. The times are CPU time of the one thread, system calls included.

Arguments: one JSON object. Standard output: ``{step: microseconds a message}`` a line a round.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import packs

from certs import files
from gateway.alarm_book import AlarmBook
from gateway.coap import fastlane
from gateway.coap.exchanges import Exchanges
from gateway.coap.numbers import EXCHANGE_LIFETIME, Code
from gateway.cose import cbor, epochs, record
from gateway.dtls.association import Path
from gateway.dtls.client import Client
from gateway.dtls.cookie import Cookies
from gateway.dtls.engines.openssl import OpensslClient, OpensslServer, psk_suites
from gateway.dtls.server import Config as DtlsConfig
from gateway.dtls.server import Server
from gateway.ingress.addresses import LENGTH, Peers
from gateway.ingress.mmsg import INBOX, Inbox, Outbox
from gateway.intake import Intake, Offer
from gateway.lane import Lane
from gateway.outbox.store import Store
from gateway.recent_keys import RecentKeys
from gateway.roster.devices import Devices
from gateway.roster.recipients import Recipients
from gateway.roster.ward import Ward
from gateway.senml.pack import resolve_untrusted
from gateway.senml.senml_cbor import encode_pack
from gateway.vitals.assessment import to_map
from gateway.vitals.triage import Config as TriageConfig
from gateway.vitals.triage import Triage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.dtls.association import Association
    from gateway.intake import Admitted

NODES = 50
BURST = 100
"""Messages of a burst, and records of a transaction: what a busy gateway comes to."""

_SUITE = "PSK-AES128-CCM8"
_GATEWAY = "gateway"
_HOST = "127.0.0.1"


class Walk:
    """The rooms, joined as far as a step needs it. folder: a ward's. each: bursts to prepare."""

    def __init__(self, folder: File, key: str, each: int) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._now, self._wall = time.monotonic(), time.time()
        state = folder / "state"
        self._ward = Ward(
            Devices(state / "devices.json"), Recipients(state / "recipients.json"), bytes(32)
        )
        certificate, signing = files.load_pair(
            folder / "keys" / "gateway.pem", folder / "keys" / "gateway.key"
        )
        self._epochs, others = (
            epochs.Epochs(epochs.Config(), _GATEWAY, signing, certificate, os.urandom)
            for _ in range(2)
        )
        self._triage, self._exchanges = Triage(TriageConfig()), Exchanges()
        self._intake = Intake(
            gateway=_GATEWAY,
            ward=self._ward,
            triage=Triage(TriageConfig()),
            epochs=others,
            recent=RecentKeys(()),
            check_room=lambda lane, size: None,
            book=AlarmBook(bytes(32), os.urandom, lambda kept, gone: None),
            random=os.urandom,
        )
        self._store = Store(folder / "walk.db")
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._listener.bind((_HOST, 0))
        length = LENGTH[socket.AF_INET]
        self._inbox, self._outbox = Inbox(length), Outbox(length)
        peers = Peers(0)
        self._paths, self._names = peers.paths, peers.names
        self._server = Server(
            DtlsConfig(associations=NODES),
            OpensslServer(self._ward.devices, os.urandom(32), psk_suites()),
            Cookies(os.urandom(32), os.urandom),
            first_number=0,
        )
        self._nodes = [self._node(number, key) for number in range(NODES)]
        for association in self._server.associations():
            peers.keep(association.path)
        requests = [
            packs.requests(number, method="POST", path=("v",), boot=1, count=each * BURST // NODES)
            for number in range(NODES)
        ]
        self._bursts: Iterator[list[bytes]] = iter(
            [
                [
                    client.association.protect(next(requests[number]))
                    for number, (_, client) in enumerate(self._nodes)
                    if client.association is not None
                    for _ in range(BURST // NODES)
                ]
                for _ in range(each)
            ]
        )

    def _node(self, number: int, key: str) -> tuple[socket.socket, Client]:
        """A node with its association. The handshake needs no wire."""
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((_HOST, 0))
        one.connect(self._listener.getsockname())
        path = Path(0, (_HOST, one.getsockname()[1]))
        engines = OpensslClient(f"bench-{number}".encode(), key.encode(), [_SUITE])
        client = Client(engines, mtu=1232, now=self._now)
        while client.outgoing:
            flight, client.outgoing = client.outgoing, []
            for datagram in flight:
                self._server.receive(datagram, path, self._now)
            for datagram, _ in self._server.outgoing:
                client.receive(datagram, self._now)
            self._server.outgoing.clear()
        return one, client

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.thread_time_ns()
        yield
        self.spent[name] += (time.thread_time_ns() - began) / 1000 / BURST

    def burst(self) -> None:
        """One burst, all the way."""
        now, wall, wall_ms = self._now, self._wall, int(self._wall * 1000)
        datagrams = next(self._bursts)
        senders = [node for node, _ in self._nodes for _ in range(BURST // NODES)]
        for sender, datagram in zip(senders, datagrams, strict=True):
            sender.send(datagram)
        burst = []
        with self._step("udp: receive"):
            while True:
                piece = self._inbox.receive(self._listener.fileno(), self._paths)
                burst += piece
                if len(piece) < INBOX:
                    break
        opened: list[tuple[Association, bytes]] = []
        with self._step("dtls: find the association, open"):
            for datagram, path in burst:
                received = self._server.receive(datagram, path, now)
                assert received is not None
                opened.append((received[0], received[1][0]))
        with self._step("coap: claim"):
            claimed = [fastlane.claim(plaintext) for _, plaintext in opened]
        telemetry = [one for one in claimed if one is not None]
        assert len(telemetry) == BURST
        with self._step("coap: exchanges, begin"):
            for (association, plaintext), one in zip(opened, telemetry, strict=True):
                self._exchanges.begin(
                    association.endpoint.association,
                    one.mid,
                    hash(plaintext),
                    now,
                    EXCHANGE_LIFETIME,
                )
        offers = [
            Offer(association.endpoint, one[3], one[4], one[5])
            for (association, _), one in zip(opened, telemetry, strict=True)
        ]
        devices = [offer.endpoint.device for offer in offers]
        with self._step("roster: whose device"):
            assigned = [self._ward.assignment(device) for device in devices]
        assignments = [one for one in assigned if one is not None]
        with self._step("senml: decode, resolve"):
            resolved = [
                resolve_untrusted(offer.payload, offer.content_format, device=device, wall=wall)
                for offer, device in zip(offers, devices, strict=True)
            ]
        with self._step("vitals: triage"):
            judged = [
                self._triage.assess(
                    whose.patient,
                    pack,
                    wall=wall,
                    now=wall,
                    declared=False,
                    lenient_units=False,
                )
                for whose, pack in zip(assignments, resolved, strict=True)
            ]
        # Encoded beforehand: the gateway remembers what it has encoded, and judgements repeat.
        assessments = [cbor.encode(to_map(one)) for one in judged]
        with self._step("cose: write the plaintext"):
            plaintexts = []
            for device, whose, pack, assessment in zip(
                devices, assignments, resolved, assessments, strict=True
            ):
                written = record.Plaintext(
                    device, whose.patient, wall_ms, "synchronised", encode_pack(pack), None, None
                )
                plaintexts.append(record.encode(written, assessment=assessment))
        with self._step("cose: seal"):
            for number, (whose, plaintext) in enumerate(zip(assignments, plaintexts, strict=True)):
                sealer, _ = self._epochs.current(
                    whose.pseudonym, Lane.ROUTINE, whose.readers[Lane.ROUTINE], now=now, wall=wall
                )
                bound = record.external_aad(
                    _GATEWAY, number.to_bytes(16, "big"), whose.pseudonym, Lane.ROUTINE, wall_ms
                )
                sealer.seal(plaintext, bound)
        with self._step(WHOLE_INTAKE):
            outcomes = self._intake.admit(offers, now=now, wall=wall)
        admitted: list[Admitted] = outcomes  # type: ignore[assignment]  # none is refused
        with self._step("outbox: rows, insert, commit (100 a transaction)"):
            self._store.begin()
            self._store.add(Lane.ROUTINE, [one.entry for one in admitted])
            self._store.commit()
        answers = []
        with self._step("coap: answer, exchanges, finish"):
            for (association, _), one in zip(opened, telemetry, strict=True):
                answer = fastlane.answer(one, Code.CHANGED, mid=None)
                number = association.endpoint.association
                self._exchanges.finish(number, one.mid, answer, now)
                answers.append(answer)
        with self._step("dtls: protect"):
            protected = [
                association.protect(answer)
                for (association, _), answer in zip(opened, answers, strict=True)
            ]
        with self._step("udp: send"):
            names = [self._names[association.path] for association, _ in opened]
            self._outbox.send(self._listener.fileno(), protected, names)
        for sender in senders:
            sender.recv(2048)

    def close(self) -> None:
        """Files and sockets."""
        self._store.close()
        self._listener.close()
        for one, _ in self._nodes:
            one.close()


WHOLE_INTAKE = "intake: all of roster to seal, with what joins them"
"""Not a step of its own: the steps from `roster` to `seal` are in it."""


def main() -> None:
    """See the module."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    rounds, bursts = arguments["rounds"], arguments["bursts"]
    walk = Walk(File(arguments["folder"]), arguments["key"], (rounds + 1) * bursts)
    for number in range(rounds + 1):
        walk.spent.clear()
        for _ in range(bursts):
            walk.burst()
        if number:  # the first one warms up
            told = {name: spent / bursts for name, spent in walk.spent.items()}
            print(json.dumps(told), flush=True)
    walk.close()


if __name__ == "__main__":
    main()
