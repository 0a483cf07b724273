"""A stolen key: whoever holds it is that device, and cannot speak for another patient."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import cbor2

from gateway.coap.numbers import Type, dotted
from gateway.errors import ForbiddenError
from gateway.senml import resolve
from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.hostile import attacked, described
from tests.integration.peer import CBOR, JSON

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.experiments.rigs.hostile import Faults, Target

_ELECTIVE = ((65_000, b"x"),)
"""Sends a message to the other lane."""
_MARK = "stolen-key"


def _foreign(chance: random.Random, thief: str, victim: str) -> list[dict[int, Any]]:
    """A pack in the victim's name, wholly or from some record on."""
    value: dict[int, Any] = {0: "hr", 1: "1/min", 2: 40}
    separator = chance.choice("/:")
    return chance.choice(
        (
            [{-2: f"{victim}{separator}", **value}],
            [{-2: victim, **value}],
            [{**value, 0: f"{victim}{separator}hr"}],
            [value, {**value, 0: f"{victim}{separator}hr"}],
            [{-2: f"{thief}/", **value}, {-2: f"{victim}/", **value}],
            [{-2: f"{thief}{victim}/", **value}],
            [{-2: f"{thief}/{victim}/", **value}],
            [{-2: thief[:1], **value, 0: victim[1:] + "/hr"}],
        )
    )


def _in_words(victim: str) -> list[dict[int, Any]]:
    """What a gateway that looked at the content could take for the victim's."""
    return [
        {0: "note", 3: f"{_MARK} {victim}"},
        {0: "device", 3: victim},
        {0: "patient", 3: victim},
        {0: f"{victim}.hr", 2: 40},
    ]


def _run(run: Run) -> Found:
    chance = random.Random(run.seed)
    failures: list[str] = []
    written = 0
    with attacked(run, _FAULTS) as target:
        thief = target.peer()
        victim = target.peer().device
        for done in range(run.runs):
            pack = _foreign(chance, thief.device, victim)
            for path in ("v", "a"):
                for more in ((), _ELECTIVE):
                    kind = chance.choice((Type.CON, Type.NON))
                    answer = thief.request(path, cbor2.dumps(pack), CBOR, kind=kind, more=more)
                    if dotted(answer.code) != "4.03":
                        failures.append(f"{pack}: {dotted(answer.code)}, not 4.03")
            if done % 10 == 0:
                written += 1
                answer = thief.request("v", cbor2.dumps(_in_words(victim)), CBOR)
                if dotted(answer.code) != "2.04":
                    failures.append(f"its own pack: {dotted(answer.code)}")
            run.progress(done + 1)
        name = f'[{{"bn":"{victim}/","n":"hr","v":40}}]'.encode()
        if dotted(thief.request("v", name, JSON).code) != "4.03":
            failures.append("in JSON: not 4.03")
        failures += _stored(target, thief.device, written)
    return Found(failures, {"refused": 4 * run.runs, "stored as its own": written})


def _stored(target: Target, thief: str, written: int) -> list[str]:
    """What a reader finds of the packs that were taken: who sent them, whose they are."""
    if target.ward is None:
        return []
    target.ward.delivered()
    found = [
        one
        for one in target.ward.opened("doctor")
        if any((record.text or "").startswith(_MARK) for record in one.records or ())
    ]
    failures = [
        f"stored as {one.device}, patient {one.patient}"
        for one in found
        if (one.device, one.patient) != (thief, thief)
        or not all(record.name.startswith(f"{thief}/") for record in one.records or ())
    ]
    if len(found) != written:
        failures.append(f"{len(found)} of {written} records are there")
    return failures


# -- faults


def _any_name() -> AbstractContextManager[object]:
    full_name = resolve._full_name

    def trusting(device: str | None, base: str | None, name: str | None) -> tuple[str, str]:
        try:
            return full_name(device, base, name)
        except ForbiddenError:
            return full_name(None, base, name)

    return patch.object(resolve, "_full_name", trusting)


_FAULTS: Faults = {"any-name": ("the name in the payload counts", _any_name)}

register(
    Experiment(
        id="S-22",
        name="stolen-key",
        target=(
            "a pack in another device's name is refused (4.03), whatever else it says is stored "
            "under the association's own device and patient; both lanes, both resources"
        ),
        unit="packs",
        short=50,
        long=5_000,
        run=_run,
        faults=described(_FAULTS),
        fault_runs=10,
    )
)
