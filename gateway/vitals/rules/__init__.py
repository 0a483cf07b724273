"""Triage rules: one file each, registered by name.

A rule is a class with two class variables: ``Config``, a frozen dataclass, every field with a
default, and ``whole_patient``. It is made as ``rule(config)`` once for every stream (one device of
one patient), or once for a patient if ``whole_patient``: then it looks at all devices together.
What it then does is :class:`gateway.vitals.patient.Rule`. It is registered by a call below the
class, because a decorated class would be compiled to a slow one.
"""

from __future__ import annotations

from typing import Any

from gateway.registry import Registry

# A protocol would say more, but mypy holds the nested class against it: the contract suite checks.
rules: Registry[Any] = Registry("rule")
