"""Who may import whom, and which rooms reach for nothing but their arguments.

Reads every module, imports none. A room imports rooms of later rows only, never a neighbour in its
own row. When a needed import breaks a row, move the code, or change the rows with the reason.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOP = Path(__file__).parent.parent

ROWS = [
    ["gateway.__main__"],
    ["gateway.cli"],
    ["gateway.demonstration", "gateway.service"],
    ["gateway.app", "gateway.provision", "gateway.letters"],
    ["gateway.making", "gateway.figures"],
    ["gateway.workers"],
    ["gateway.reloading"],
    ["gateway.uplink", "gateway.identity"],
    ["gateway.config"],
    ["gateway.control", "proxy", "cloud", "gateway.reader", "gateway.console"],
    ["gateway.ingress", "gateway.delivery", "gateway.node"],
    ["gateway.telemetry", "gateway.alarm_book", "gateway.admission", "gateway.timekeeping"],
    ["gateway.intake", "gateway.sinks"],
    ["gateway.roster"],
    ["gateway.outbox", "gateway.dtls"],
    ["gateway.vitals"],
    ["gateway.coap", "gateway.senml", "gateway.cose", "certs"],
    [
        "gateway.endpoint",
        "gateway.registry",
        "gateway.lane",
        "gateway.clock",
        "gateway.errors",
        "gateway.recent_keys",
    ],
]
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}

PURE = [
    "gateway.coap",
    "gateway.senml",
    "gateway.cose",
    "gateway.vitals",
    "gateway.intake",
    "gateway.recent_keys",
    "gateway.delivery.retry",
    "gateway.delivery.breaker",
    "gateway.delivery.lanes",
    "gateway.dtls.association",
    "gateway.dtls.client",
    "gateway.dtls.cookie",
    "gateway.dtls.credentials",
    "gateway.dtls.flights",
    "gateway.dtls.handshake",
    "gateway.dtls.hosts",
    "gateway.dtls.records",
    "gateway.dtls.refused",
    "gateway.dtls.server",
    "gateway.workers.totals",
    "gateway.workers.wire",
]
AMBIENT = {
    "OpenSSL",
    "aiocoap",
    "aiohttp",
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uuid",
}

ONLY_IN = {
    "aiocoap": "gateway.ingress",
    "OpenSSL": "gateway.dtls.engines.openssl",
    "sqlite3": ("gateway.outbox", "cloud", "gateway.cli.show"),
}
"""Libraries that one place keeps to itself."""

LONGEST_MODULE = 350

MODULES = {
    ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("gateway", "proxy", "certs", "cloud")
    for path in (TOP / package).rglob("*.py")
}


def within(module: str, names: Iterable[str]) -> str | None:
    """The longest of ``names`` that is ``module`` or holds it."""
    holding = [name for name in names if f"{module}.".startswith(f"{name}.")]
    return max(holding, key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"gateway"}))
def test_module_imports_later_rows_only(module: str) -> None:
    here = within(module, RANK)
    assert here is not None, f"{module} has no room: place it in ROWS"
    for target in imports(MODULES[module]):
        there = within(target, RANK)
        if there is not None and there != here:
            assert RANK[here] < RANK[there], f"{module} may not import {target}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if within(m, PURE)))
def test_pure_module_reaches_for_nothing_ambient(module: str) -> None:
    roots = {target.partition(".")[0] for target in imports(MODULES[module])}
    assert not roots & AMBIENT, f"{module} reaches for {sorted(roots & AMBIENT)}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stays_in_its_place(library: str) -> None:
    allowed = ONLY_IN[library]
    places = (allowed,) if isinstance(allowed, str) else allowed
    strays = [
        module
        for module, path in MODULES.items()
        if within(module, places) is None
        and any(target.partition(".")[0] == library for target in imports(path))
    ]
    assert not strays, f"{strays} import {library}; only {places} may"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_is_of_a_size_to_be_read(module: str) -> None:
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= LONGEST_MODULE, f"{module} has {lines} lines: does it hold two ideas?"
