"""What a configuration looks like to people and editors: commented TOML, JSON Schema, effective."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config.loading import UNITS
from gateway.config.sections import Configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config.loading import Loaded

_WIDTH = 98


def commented(changes: Mapping[str, object]) -> str:
    """A whole ``gateway.toml``: every key explained, at its default and commented out, but for
    ``changes`` (``section.key`` -> value), which are set."""
    lines = ["# Ward Gateway. Every key stands here; a commented one shows its default.", ""]
    for section, kind in typing.get_type_hints(Configuration).items():
        lines += [f"# {line}" for line in _wrapped(_first_paragraph(kind))]
        lines.append(f"[{section}]")
        texts = documented(kind)
        for one in dataclasses.fields(kind):
            lines += [f"# {line}" for line in _wrapped(texts[one.name])]
            name = f"{section}.{one.name}"
            if name in changes:
                lines.append(f"{one.name} = {_toml(one.name, changes[name])}")
            else:
                lines.append(f"# {one.name} = {_toml(one.name, getattr(kind(), one.name))}")
        lines.append("")
    return "\n".join(lines)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of ``gateway.toml``, for editors."""
    properties = {}
    for section, kind in typing.get_type_hints(Configuration).items():
        hints, texts = typing.get_type_hints(kind), documented(kind)
        properties[section] = {
            "type": "object",
            "description": _first_paragraph(kind),
            "additionalProperties": False,
            "properties": {
                one.name: {
                    **_schema_type(one.name, hints[one.name]),
                    "description": texts[one.name],
                    "default": _plain(getattr(kind(), one.name)),
                }
                for one in dataclasses.fields(kind)
            },
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ward Gateway configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def effective(loaded: Loaded) -> list[tuple[str, object, str]]:
    """``(section.key, value, source)`` of every key in force."""
    rows = []
    for name, source in loaded.sources.items():
        section, _, key = name.partition(".")
        rows.append((name, _plain(getattr(getattr(loaded.configuration, section), key)), source))
    return rows


def documented(kind: type) -> dict[str, str]:
    """The text under each field of a Config dataclass."""
    texts: dict[str, str] = {}
    field = None
    for node in _definition(kind).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and field:
            texts[field] = _flat(str(node.value.value))
            field = None
    return texts


def _definition(kind: type) -> ast.ClassDef:
    """From the source: a module that is compiled lies beside its own."""
    module = Path(inspect.getfile(kind))
    tree = ast.parse(module.with_name(f"{module.name.partition('.')[0]}.py").read_text("utf-8"))
    return next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )


def _first_paragraph(kind: type) -> str:
    return _flat((ast.get_docstring(_definition(kind)) or "").split("\n\n")[0])


def _flat(docstring: str) -> str:
    """One line, without the marks of a docstring."""
    return " ".join(docstring.split()).replace("``", "")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _toml(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        for unit, size in reversed(UNITS.items()):
            if value and value % size == 0:
                return f'"{value // size} {unit}"'
    # A JSON string, number, list or boolean is the same in TOML.
    return json.dumps(_plain(value))


def _schema_type(name: str, hint: object) -> dict[str, Any]:
    if hint == tuple[str, ...]:
        return {"type": "array", "items": {"type": "string"}, "minItems": 1}
    if hint is int and name.endswith("_bytes"):
        return {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ ?(KiB|MiB|GiB)$"}
    if hint in (int, float):
        return {"type": "integer" if hint is int else "number", "minimum": 0}
    if hint is bool:
        return {"type": "boolean"}
    return {"type": "string", "minLength": 1}
