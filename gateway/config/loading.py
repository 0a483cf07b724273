"""Reading a configuration: file, environment, defaults, and a list of all that is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.config.sections import Configuration
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SEARCHED: Final = (Path("gateway.toml"), Path("/etc/ward-gateway/gateway.toml"))
ENVIRONMENT: Final = "WARD_GATEWAY_"
UNITS: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_SIZE: Final = re.compile(r"(\d+) ?(KiB|MiB|GiB)")
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_LARGEST_PORT: Final = 65_535


class Loaded(NamedTuple):
    """A configuration and where it comes from."""

    configuration: Configuration
    path: Path
    sources: dict[str, str]
    """``section.key`` -> ``default``, ``file`` or the name of an environment variable."""


def find(given: Path | None) -> Path:
    """The file to use. Raises ConfigError when there is none."""
    if given is not None:
        candidates: tuple[Path, ...] = (given,)
    else:
        candidates = SEARCHED
    for path in candidates:
        try:
            if path.is_file():
                return path.absolute()
        except OSError as error:  # a folder that this user may not enter, a name too long
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    names = " nor ".join(str(path) for path in candidates)
    raise ConfigError(
        [f"no configuration: neither {names} is there; `ward-gateway init DIR` makes one"]
        if given is None
        else [f"{given}: no such file; `ward-gateway init DIR` makes one"]
    )


def load(given: Path | None, environment: Mapping[str, str]) -> Loaded:
    """Read and check everything. Raises ConfigError with all problems, not the first."""
    path = find(given)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None
    sources: dict[str, str] = {}
    sections = {one.name: one for one in dataclasses.fields(Configuration)}
    problems = [
        f"{path}: [{name}]: no such section{_near(name, sections)}"
        for name in content
        if name not in sections
    ]
    values = {}
    for name in sections:
        kind = typing.get_type_hints(Configuration)[name]
        given_values = content.get(name, {})
        if not isinstance(given_values, dict):
            problems.append(f"{path}: {name}: must be a section, [{name}]")
            given_values = {}
        values[name] = _section(name, kind, given_values, environment, path, problems, sources)
    variables = {_variable(*name.split(".")): name for name in sources}
    problems += [
        f"environment: {variable}: no such key{_near(variable, variables)}"
        for variable in environment
        if variable.startswith(ENVIRONMENT) and variable not in variables
    ]
    if problems:
        raise ConfigError(problems)
    return Loaded(Configuration(**values), path, sources)


def _section(
    name: str,
    kind: type,
    given: Mapping[str, Any],
    environment: Mapping[str, str],
    path: Path,
    problems: list[str],
    sources: dict[str, str],
) -> Any:  # noqa: ANN401 -- one of the section classes
    hints = typing.get_type_hints(kind)
    fields = {one.name: one for one in dataclasses.fields(kind)}
    problems += [
        f"{path}: [{name}] {key}: no such key{_near(key, fields)}"
        for key in given
        if key not in fields
    ]
    values: dict[str, object] = {}
    for key in fields:
        variable = _variable(name, key)
        if variable in environment:
            where = f"environment: {variable}"
            value = _from_text(environment[variable], hints[key])
            sources[f"{name}.{key}"] = variable
        elif key in given:
            where, value = f"{path}: [{name}] {key}", given[key]
            sources[f"{name}.{key}"] = "file"
        else:
            sources[f"{name}.{key}"] = "default"
            default = getattr(kind(), key)
            if isinstance(default, Path):
                values[key] = path.parent / default
            continue
        try:
            values[key] = _checked(key, value, hints[key], path.parent)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(f"{path}: [{name}]: {error}")
        return kind()


def _variable(section: str, key: str) -> str:
    return f"{ENVIRONMENT}{section.upper()}__{key.upper()}"


def _from_text(text: str, hint: object) -> object:
    """An environment variable as TOML would have given it."""
    if hint in (str, Path):
        return text
    if hint == tuple[str, ...]:
        return [part.strip() for part in text.split(",")]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(key: str, value: object, hint: object, folder: Path) -> object:
    """``value`` as the type of its key. Raises ValueError in words for people."""
    if hint is Path and isinstance(value, str) and value:
        return folder / value
    if hint is str and isinstance(value, str) and value:
        if key == "url" and not value.startswith("https://"):
            raise ValueError(f"{value!r} must begin with https://")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and key.endswith("_bytes") and isinstance(value, str):
        size = _SIZE.fullmatch(value)
        if size is not None:
            return int(size[1]) * UNITS[size[2]]
    if hint in (int, float) and isinstance(value, int) and not isinstance(value, bool):
        return _not_negative(value)
    if hint is float and isinstance(value, float):
        return _not_negative(value)
    if hint == tuple[str, ...] and isinstance(value, list) and value:
        return tuple(_place(one) for one in value)
    raise ValueError(f"{value!r} is not {_WORDS[hint]}")


def _not_negative(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} must be 0 or more")
    return value


def _place(value: object) -> str:
    match = _PLACE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _LARGEST_PORT:
        raise ValueError(f"{value!r} is not host:port, such as 0.0.0.0:5684 or [::]:5684")
    return match[0]


_WORDS: Final[dict[object, str]] = {
    Path: "a path",
    str: "a text",
    bool: "true or false",
    int: "a whole number (or a size such as 64MiB, where the key ends in _bytes)",
    float: "a number",
    tuple[str, ...]: "a list of host:port",
}


def _near(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known)}"
