"""cloud.toml."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from cloud.config import Config, example, load
from gateway.errors import ConfigError
from gateway.lane import Lane

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Path:
    path = folder / "cloud.toml"
    path.write_text(text)
    return path


def test_the_example_has_every_key_at_its_default(tmp_path: Path) -> None:
    """It is what a new installation starts with."""
    document = tomllib.loads(example())
    keys = {field.name for field in fields(Config)} - {"folder", "roles"}
    assert set(document["cloud"]) == keys
    bare = Config(
        folder=tmp_path,
        certificate=tmp_path / document["cloud"]["certificate"],
        key=tmp_path / document["cloud"]["key"],
        ca=tmp_path / document["cloud"]["ca"],
    )
    assert load(written(tmp_path, example())) == bare
    assert set(document["roles"]) == set(bare.roles)


def test_a_role_can_be_given_other_lanes(tmp_path: Path) -> None:
    """The others keep theirs."""
    text = example().replace('doctor = ["routine"]', 'doctor = ["routine", "emergency"]')
    roles = load(written(tmp_path, text)).roles
    assert roles["doctor"] == frozenset(Lane)
    assert roles["alarm-centre"] == {Lane.EMERGENCY}


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """File, key, what is wrong."""
    text = """
        surprise = 1
        [cloud]
        listen = "nowhere"
        databse = "x"
        key = 7
        ca = "ca.pem"
        [roles]
        nurse = []
        doctor = [["routine"]]
        patient = "routine"
    """
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    said = "\n".join(caught.value.problems)
    for part in (
        "surprise: unknown",
        "cloud.databse: unknown",
        "cloud.listen: 'nowhere'",
        "cloud.key: must be a text",
        "cloud.certificate: missing",
        "roles.nurse: unknown",
        "roles.doctor: must be",
        "roles.patient: must be",
    ):
        assert part in said
    assert all(problem.startswith(str(tmp_path)) for problem in caught.value.problems)
    assert len(caught.value.problems) == 8


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9443", ("127.0.0.1", 9443)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_where_to_listen(tmp_path: Path, listen: str, expected: tuple[str, int]) -> None:
    """IPv6 stands in brackets."""
    text = example().replace("127.0.0.1:9443", listen)
    assert load(written(tmp_path, text)).address() == expected


@pytest.mark.parametrize("listen", ["::1:9443", "host", "host:", ":1", "host:65536", "host:x"])
def test_where_nobody_can_listen(tmp_path: Path, listen: str) -> None:
    """Said before anything is opened."""
    with pytest.raises(ConfigError, match="is not host:port"):
        load(written(tmp_path, example().replace("127.0.0.1:9443", listen)))


@pytest.mark.parametrize("content", [None, b"[cloud", b"\xff"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Missing, not TOML, not text."""
    path = tmp_path / "cloud.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cloud\.toml"):
        load(path)
