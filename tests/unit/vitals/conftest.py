"""A bracelet whose packs go through SenML-CBOR into a triage of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from gateway.senml.pack import resolve_untrusted
from gateway.vitals.triage import Config, Triage

if TYPE_CHECKING:
    from gateway.vitals.assessment import Assessment, Finding

START = 1_790_000_000.0
UNITS = {
    "hr": "1/min", "rr": "ms", "spo2": "/100", "resp": "1/min", "temp": "Cel", "sbp": "mm[Hg]",
    "quality": "/",
}  # fmt: skip


class Bracelet:
    """Sends packs at ``at`` seconds after START; its clock may be wrong by ``clock`` seconds."""

    def __init__(self, triage: Triage, patient: str, device: str) -> None:
        self.triage = triage
        self.patient = patient
        self.device = device
        self.clock = 0.0
        self.gateway_clock = 0.0
        """How wrong the gateway's time of day is."""
        self.relative = False
        """Whether times in packs are relative to their arrival."""

    def sends(
        self,
        at: float,
        *,
        rr: list[float] | None = None,
        rr_times: list[float] | None = None,
        age: float = 0.0,
        declared: bool = False,
        lenient_units: bool = False,
        **values: float | str | bool,
    ) -> Assessment:
        """One pack, measured ``age`` seconds before it arrives at ``at``.

        ``rr`` in seconds, the last beat at ``at``, or each at its ``rr_times``.
        """
        zero = -at if self.relative else START + self.clock
        time = zero + at - age
        pack: list[dict[int, Any]] = []
        for name, value in values.items():
            kind = 4 if isinstance(value, bool) else 3 if isinstance(value, str) else 2
            pack.append({0: name, kind: value, 6: time})
            if name in UNITS:
                pack[-1][1] = UNITS[name]
        beats = list(rr or ())
        times = rr_times or [at - sum(beats[i + 1 :]) for i in range(len(beats))]
        for beat, when in zip(beats, times, strict=True):
            moment = zero + when - age
            pack.append({0: "rr", 1: "ms", 2: round(beat * 1000), 6: moment})
        payload = cbor2.dumps(pack)
        resolved = resolve_untrusted(
            payload, 112, device=self.device, wall=START + at + self.gateway_clock
        )
        return self.triage.assess(
            self.patient,
            resolved,
            wall=START + at + self.gateway_clock,
            now=START + at,
            declared=declared,
            lenient_units=lenient_units,
        )

    def finds(self, rule: str, at: float, **pack: Any) -> Finding | None:
        """Send a pack and look for one rule's finding."""
        found = [finding for finding in self.sends(at, **pack).findings if finding.rule == rule]
        assert len(found) <= 1
        return found[0] if found else None


class Ward:
    """One triage and its bracelets."""

    start = START

    def __init__(self) -> None:
        self.triage = Triage(Config())

    def bracelet(self, patient: str = "p", device: str = "b") -> Bracelet:
        """Two of one device are the same bracelet."""
        return Bracelet(self.triage, patient, device)


@pytest.fixture
def ward() -> Ward:
    """See Ward."""
    return Ward()


@pytest.fixture
def bracelet(ward: Ward) -> Bracelet:
    """Of patient p."""
    return ward.bracelet()
