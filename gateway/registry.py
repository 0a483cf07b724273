"""Named components that register themselves: a new one is one new file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

T = TypeVar("T")


class Registry(Generic[T]):
    """Components of one kind, by name. Names are what a configuration says: ``type = "https"``."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._components: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator. Raises ValueError for a name used twice."""

        def decorate(component: T) -> T:
            if name in self._components:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._components[name] = component
            return component

        return decorate

    def get(self, name: str) -> T:
        """Raises KeyError that lists the known names."""
        try:
            return self._components[name]
        except KeyError:
            known = ", ".join(sorted(self._components))
            raise KeyError(f"no {self._kind} {name!r}; there are: {known}") from None

    def items(self) -> Iterator[tuple[str, T]]:
        """In the order of their names, so that nothing depends on the order of imports."""
        return iter(sorted(self._components.items()))


def load_all(package: ModuleType) -> None:
    """Import every module of ``package``, so that each registers itself."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
