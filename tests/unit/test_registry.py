"""Components that register themselves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from gateway.registry import Registry, load_all

if TYPE_CHECKING:
    from pathlib import Path


def test_a_component_is_found_by_its_name_and_left_as_it_is() -> None:
    registry: Registry[type] = Registry("sink")

    class Https:
        pass

    assert registry.register("https")(Https) is Https
    assert registry.get("https") is Https


def test_a_name_used_twice_is_refused_and_the_first_stays() -> None:
    registry: Registry[int] = Registry("rule")
    registry.register("asystole")(1)
    with pytest.raises(ValueError, match="rule 'asystole' is registered twice"):
        registry.register("asystole")(2)
    assert registry.get("asystole") == 1


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    registry: Registry[int] = Registry("sink")
    registry.register("mqtt")(1)
    registry.register("https")(2)
    with pytest.raises(KeyError, match="no sink 'htps'; there are: https, mqtt"):
        registry.get("htps")


def test_the_order_does_not_depend_on_the_order_of_imports() -> None:
    registry: Registry[int] = Registry("sink")
    for number, name in enumerate(("c", "a", "b")):
        registry.register(name)(number)
    assert list(registry.items()) == [("a", 1), ("b", 2), ("c", 0)]


def test_a_new_file_in_a_package_is_all_that_a_component_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ward_components"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from gateway.registry import Registry\nparts = Registry('part')\n"
    )
    (package / "one.py").write_text("from ward_components import parts\nparts.register('one')(1)\n")
    (package / "two.py").write_text("from ward_components import parts\nparts.register('two')(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import ward_components

    try:
        load_all(ward_components)
        load_all(ward_components)  # a second time registers nothing again
        assert list(ward_components.parts.items()) == [("one", 1), ("two", 2)]
    finally:
        for name in [name for name in sys.modules if name.startswith("ward_components")]:
            del sys.modules[name]
