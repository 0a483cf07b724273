"""The sections of ``gateway.toml``. Rooms that have a Config of their own are composed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.cose import epochs
from gateway.dtls import server
from gateway.outbox import config as outbox
from gateway.vitals import silence

MOST_WORKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySection:
    """Who this gateway is and where its things are. Relative paths start at this file."""

    ward: str = "ward"
    """Name of the ward, for people."""
    name: str = "gateway"
    """Name of this gateway: the subject of its certificate, bound into every record."""
    state: Path = Path("state")
    """Folder of everything that changes: outbox, rosters, control socket. Mode 0700."""
    certificate: Path = Path("keys/gateway.pem")
    """The gateway's certificate, shown to nodes and the cloud store and under every signature."""
    key: Path = Path("keys/gateway.key")
    """Its private key, mode 0600."""
    ca: Path = Path("ca/ca.pem")
    """The certificate authority that certificates of devices and the cloud store must come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoapSection:
    """Where nodes reach the gateway."""

    listen: tuple[str, ...] = ("0.0.0.0:5684", "[::]:5684")
    """Addresses for coaps (CoAP over DTLS 1.2), UDP."""
    workers: int = 1
    """Processes that share them, so that more cores than one count: at most one a core."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"workers must be 1 to {MOST_WORKERS}: one a core is the most of use")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSection:
    """Where people and their monitoring reach the gateway."""

    listen: tuple[str, ...] = ("127.0.0.1:8080",)
    """Addresses for http on this machine; any other than loopback is https."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSection:
    """Where sealed records go."""

    url: str = "https://127.0.0.1:9443"
    """Base address of the cloud store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """What one device, and all of them together, may take."""

    device_messages_per_s: float = 50.0
    """Messages a second from one device; more are answered 4.29, or not at all. 0 = no limit."""
    associations: int = server.Config().associations
    """DTLS associations held at once; the longest silent one makes room. About 4 KiB each."""

    def __post_init__(self) -> None:
        if self.associations < 1:
            raise ValueError("associations must be 1 or more: nobody could connect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of ``gateway.toml``."""

    gateway: GatewaySection = field(default_factory=GatewaySection)
    coap: CoapSection = field(default_factory=CoapSection)
    console: ConsoleSection = field(default_factory=ConsoleSection)
    cloud: CloudSection = field(default_factory=CloudSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    outbox: outbox.Config = field(default_factory=outbox.Config)
    epochs: epochs.Config = field(default_factory=epochs.Config)
    silence: silence.Config = field(default_factory=silence.Config)
