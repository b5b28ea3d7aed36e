"""Names of a package that are loaded when they are first used, so that reading results does not wait for PyTorch."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any


class _OnDemand(ModuleType):
    """A package that looks up some of its names in its modules, when they are asked for."""

    _places: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        place = vars(self).get("_places", {}).get(name)
        if place is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        vars(self)[name] = found = getattr(importlib.import_module(place), name)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        # When a module was loaded, Python sets the package's attribute of that name. If it is also a function's, the function keeps it.
        if not (isinstance(value, ModuleType) and name in self._places):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self._places})


def load_on_demand(package: str, names: Mapping[str, Sequence[str]]) -> None:
    """Let a package load names when they are first used.

    Args:
        package: its `__name__`.
        names: the names in each of its modules, by the module's name in the package.
    """
    module = sys.modules[package]
    vars(module)["_places"] = {name: f"{package}.{place}" for place, several in names.items() for name in several}
    module.__class__ = _OnDemand
