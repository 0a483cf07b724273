"""Triage: one pack of a device in, one assessment out.

The table of patients is fed by the network, through devices that somebody registered; it has a cap
and forgets whoever was silent longest. A pack is read, and refused if need be, before anything is
remembered of it. A rule that is new is one new file in ``rules/``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping  # noqa: TC003  # a dataclass needs it when it is compiled
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gateway.registry import load_all
from gateway.vitals import observations
from gateway.vitals import rules as rules_package
from gateway.vitals.assessment import Assessment, Finding, Priority
from gateway.vitals.patient import Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.senml.layout import Pack
    from gateway.vitals.patient import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Triage of all patients."""

    patients: int = 10_000
    """How many are remembered, about 3 kB each; the one silent longest is forgotten first."""

    rules: Mapping[str, object] = field(default_factory=dict)
    """A rule's own ``Config`` by the rule's name; a rule that is not named has its defaults."""


class Triage:
    """All patients' state. Not for several threads."""

    def __init__(self, config: Config) -> None:
        load_all(rules_package)
        for name in config.rules:
            rules_package.rules.get(name)
        of_stream: list[Callable[[], Rule]] = []
        of_patient: list[Callable[[], Rule]] = []
        for name, rule in rules_package.rules.items():
            make = partial(rule, config.rules.get(name) or rule.Config())
            (of_patient if rule.whole_patient else of_stream).append(make)
        self._of_stream = of_stream
        self._of_patient = of_patient
        self._max_patients = config.patients
        self._patients: OrderedDict[str, Patient] = OrderedDict()

    def assess(
        self,
        patient: str,
        pack: Pack,
        *,
        wall: float,
        now: float,
        declared: bool = False,
        lenient_units: bool = False,
    ) -> Assessment:
        """Judge a pack of a device, worn by ``patient``, that arrived at ``wall`` (UTC seconds)
        and ``now`` (monotonic seconds).

        ``declared``: the node itself calls it an emergency. ``lenient_units``: the device means
        percent when it says ``%``.

        Raises:
            BadRequestError: an observation that cannot be; nothing was remembered of the pack.
        """
        observed = observations.read(pack, lenient_units=lenient_units)
        known = self._patient(patient)
        stream = known.absorb(
            pack.device,
            observed,
            wall=wall,
            now=now,
            absolute=pack.absolute,
            rules=self._stream_rules,
        )
        stream.declared = declared
        found = [
            finding for rule in stream.rules if (finding := rule.assess(known, stream)) is not None
        ]
        stream.findings = tuple(found)
        for rule in known.rules:
            if (finding := rule.assess(known, stream)) is not None:
                found.append(finding)  # noqa: PERF401  # the first kind is kept by itself
        if len(known.streams) > 1:
            found = _worst_of_each(found + known.standing(stream))
        if not found:
            if known.well is None or known.well.news2 is not known.news2:
                known.well = Assessment(Priority.ROUTINE, (), known.news2)
            return known.well
        found.sort(key=_rank)
        return Assessment(found[0].priority, tuple(found), known.news2)

    def _patient(self, identifier: str) -> Patient:
        patients = self._patients
        patient = patients.get(identifier)
        if patient is None:
            if len(patients) >= self._max_patients:
                patients.popitem(last=False)
            rules = [make() for make in self._of_patient]
            patient = patients[identifier] = Patient(identifier, rules)
        else:
            patients.move_to_end(identifier)
        return patient

    def _stream_rules(self) -> list[Rule]:
        return [make() for make in self._of_stream]


def _rank(finding: Finding) -> int:
    return finding.priority.rank


def _worst_of_each(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of each rule, of several devices': the most urgent, then the oldest."""
    worst: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda one: (one.priority.rank, one.since)):
        worst.setdefault(finding.rule, finding)
    return list(worst.values())
