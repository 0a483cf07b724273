"""The commented file, the JSON Schema and what is in force agree with the dataclasses."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import typing
from pathlib import Path

import pytest

from cloud import config as cloud_config
from gateway.config import documents
from gateway.config.loading import ENVIRONMENT, load
from gateway.config.sections import Configuration

CONFIGS = Path(__file__).parents[3] / "configs"
SECTIONS = typing.get_type_hints(Configuration)
FIELDS = [
    (section, field.name)
    for section, kind in SECTIONS.items()
    for field in dataclasses.fields(kind)
]


def _uncommented(text: str) -> str:
    """The file as somebody would have it who switched every key on."""
    return re.sub(r"(?m)^# (\w+ = .*)$", r"\1", text)


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_key_is_documented(section: str, name: str) -> None:
    """A sentence under the field, in the class that the key belongs to."""
    text = documents.documented(SECTIONS[section])[name]
    assert text.endswith("."), text
    assert text in documents.schema()["properties"][section]["properties"][name]["description"]


def test_every_section_says_what_it_is_for() -> None:
    for section in documents.schema()["properties"].values():
        assert section["description"]


def test_the_commented_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(documents.commented({}))
    loaded = load(path, {})
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert loaded.configuration == load(empty, {}).configuration
    assert set(loaded.sources.values()) == {"default"}


def test_the_commented_file_names_every_key_with_its_default(tmp_path: Path) -> None:
    """Switched on, each is read from the file and is what it was."""
    path, plain = tmp_path / "gateway.toml", tmp_path / "plain.toml"
    text = documents.commented({})
    path.write_text(_uncommented(text))
    plain.write_text(text)
    loaded = load(path, {})
    assert loaded.configuration == load(plain, {}).configuration
    assert loaded.sources == {f"{section}.{name}": "file" for section, name in FIELDS}


def test_what_is_changed_is_set_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    changes: dict[str, object] = {
        "gateway.ward": 'Ward "7" \\ Ä',
        "coap.listen": ("127.0.0.1:1",),
        "outbox.max_bytes": 5 << 30,
        "epochs.minutes": 1.5,
    }
    path.write_text(documents.commented(changes))
    loaded = load(path, {})
    assert {name for name, source in loaded.sources.items() if source == "file"} == set(changes)
    assert loaded.configuration.gateway.ward == 'Ward "7" \\ Ä'
    assert loaded.configuration.coap.listen == ("127.0.0.1:1",)
    assert loaded.configuration.outbox.max_bytes == 5 << 30


def test_no_line_is_too_long_to_read() -> None:
    assert max(map(len, documents.commented({}).splitlines())) <= 100


def test_the_schema_has_the_keys_types_and_defaults_of_the_dataclasses() -> None:
    schema = documents.schema()
    types = {int: "integer", float: "number", str: "string", Path: "string", bool: "boolean"}
    assert set(schema["properties"]) == set(SECTIONS)
    for section, kind in SECTIONS.items():
        described = schema["properties"][section]
        assert described["additionalProperties"] is False
        hints = typing.get_type_hints(kind)
        assert set(described["properties"]) == {one.name for one in dataclasses.fields(kind)}
        for name, one in described["properties"].items():
            expected = types.get(hints[name], "array")
            said = one["type"] if isinstance(one["type"], list) else [one["type"]]
            assert expected in said, name
            default = getattr(kind(), name)
            assert one["default"] == json.loads(json.dumps(default, default=str)), name


def test_the_schema_takes_a_size_in_the_words_of_the_file() -> None:
    size = documents.schema()["properties"]["outbox"]["properties"]["max_bytes"]
    assert re.search(size["pattern"], "64 MiB")
    assert not re.search(size["pattern"], "64 MB")


def test_what_is_in_force_comes_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\nward = "Seven"\n')
    rows = documents.effective(load(path, {f"{ENVIRONMENT}EPOCHS__RECORDS": "7"}))
    assert [name for name, _, _ in rows] == [f"{section}.{name}" for section, name in FIELDS]
    values = {name: (value, source) for name, value, source in rows}
    assert values["gateway.ward"] == ("Seven", "file")
    assert values["gateway.state"] == (str(tmp_path / "state"), "default")
    assert values["epochs.records"] == (7, "WARD_GATEWAY_EPOCHS__RECORDS")
    assert json.dumps(rows)


def test_the_example_of_the_gateway_is_what_the_code_generates() -> None:
    """After a change of the keys:

    python -c "from gateway.config.documents import commented as c; print(c({}), end='')" \
        > configs/gateway.toml
    """
    assert (CONFIGS / "gateway.toml").read_text() == documents.commented({})


def test_the_example_of_the_cloud_store_is_the_one_that_it_ships() -> None:
    """After a change: cp cloud/cloud.toml configs/cloud.toml"""
    assert (CONFIGS / "cloud.toml").read_text() == cloud_config.example()


def test_the_examples_can_be_read(tmp_path: Path) -> None:
    assert load(CONFIGS / "gateway.toml", {}).configuration.gateway.state == CONFIGS / "state"
    assert cloud_config.load(CONFIGS / "cloud.toml").ca == CONFIGS / "certs" / "ca.pem"
    assert tomllib.loads((CONFIGS / "cloud.toml").read_text())["cloud"]["listen"]
