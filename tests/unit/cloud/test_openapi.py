"""The published description of the API and the API itself are the same."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from cloud.api import Api
from cloud.stores.sqlite import open_sqlite
from gateway.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Ward

DOCUMENT = json.loads(resources.files("cloud").joinpath("openapi.json").read_bytes())


async def test_every_route_is_described_and_nothing_else(ward: Ward, tmp_path: Path) -> None:
    """Method by method, path by path."""
    store = await open_sqlite("c.db", folder=tmp_path, on_failure=lambda _: None)
    api = Api(store, ca=ward.authority.certificate, roles={}, clock=SystemClock())
    await store.close()
    described = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == {(route.method, route.path) for route in api.routes()}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    """A client generator would stop here."""
    node = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    assert node
