"""The making of the parts: what each gets from the configuration, and from the parts below it.

:mod:`gateway.app` says which parts there are, how they are joined and in which order they live.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.cose.epochs import Epochs
from gateway.dtls.cookie import Cookies
from gateway.dtls.engines.openssl import OpensslServer
from gateway.dtls.records import SUITES
from gateway.dtls.server import Config as DtlsConfig
from gateway.dtls.server import Server
from gateway.ingress.rate import Rates
from gateway.intake import Intake
from gateway.outbox.salvage import open_store
from gateway.outbox.writer import Writer
from gateway.recent_keys import RecentKeys
from gateway.roster import secret
from gateway.roster.devices import Devices
from gateway.roster.recipients import Recipients
from gateway.roster.ward import Ward
from gateway.vitals.triage import Config as TriageConfig
from gateway.vitals.triage import Triage
from gateway.workers.place import outbox_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.clock import Clock
    from gateway.config.sections import Configuration, LimitsSection
    from gateway.dtls.credentials import Identity
    from gateway.intake import Book
    from gateway.lane import Lane
    from gateway.outbox.config import Config as OutboxConfig
    from gateway.workers.place import Place

_EMERGENCIES_PER_S: Final = 10.0
"""Declared emergencies of one device: enough for any bracelet, too few to fill the reserve."""


def ward(state: Path, local: bytes) -> Ward:
    """The rosters of a state folder. ``local``: its secret. Raises ConfigError."""
    return Ward(
        Devices(state / "devices.json"),
        Recipients(state / "recipients.json"),
        secret.pseudonym_key(local),
    )


def writer(state: Path, quota: OutboxConfig, place: Place, clock: Clock) -> Writer:
    """Of this process's outbox; nothing is opened yet."""
    return Writer(partial(open_store, outbox_path(state, place.number)), place.outbox(quota), clock)


def server(limits: LimitsSection, place: Place, devices: Devices, identity: Identity) -> Server:
    """The table of associations, with secrets that nobody has used before."""
    return Server(
        dtls_config(limits, place),
        engines(devices, identity),
        Cookies(os.urandom(32), os.urandom),
        # Not below an earlier run's: a new one begins somewhere else among 2**32 thousands.
        first_number=int.from_bytes(os.urandom(4)) << 10,
    )


def dtls_config(limits: LimitsSection, place: Place) -> DtlsConfig:
    """This process's part of the limits."""
    return DtlsConfig(associations=place.associations(limits.associations))


def engines(devices: Devices, identity: Identity) -> OpensslServer:
    """The server side of handshakes."""
    return OpensslServer(devices, os.urandom(32), SUITES, identity)


def epochs(configuration: Configuration, identity: Identity) -> Epochs:
    """The content keys, none yet."""
    name = configuration.gateway.name
    return Epochs(configuration.epochs, name, identity.key, identity.certificate, os.urandom)


def intake(
    configuration: Configuration,
    ward: Ward,
    epochs: Epochs,
    *,
    recent: Sequence[bytes],
    check_room: Callable[[Lane, int], None],
    book: Book,
) -> Intake:
    """The clinical path. ``recent``: keys of messages that are stored already."""
    return Intake(
        gateway=configuration.gateway.name,
        ward=ward,
        triage=Triage(TriageConfig()),
        epochs=epochs,
        recent=RecentKeys(recent),
        check_room=check_room,
        book=book,
        random=os.urandom,
    )


def rates(limits: LimitsSection) -> tuple[Rates, Rates]:
    """Of every message of a device, and of those that it declares emergencies."""
    per_s = limits.device_messages_per_s
    return Rates(per_s), Rates(emergencies_per_s(per_s))


def emergencies_per_s(per_s: float) -> float:
    """0, no limit, goes for emergencies too."""
    return _EMERGENCIES_PER_S if per_s else 0.0
